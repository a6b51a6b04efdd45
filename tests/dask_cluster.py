"""A Dask cluster of real processes on this machine: a scheduler, and workers with their nannies."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from processes import marked

from xcorr.mappings import dask_client

BEGIN_S = 30.0


class DaskCluster:
    """A scheduler and ``workers`` Dask workers with one thread each. All processes, and theirs, carry a mark."""

    def __init__(self, folder, workers, *options):
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.file = folder / "scheduler.json"
        self.programs = {}
        self.start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(self.file))
        until = time.monotonic() + BEGIN_S
        while not self.file.exists() or not self.file.read_text():
            assert time.monotonic() < until, self.said("scheduler")
            time.sleep(0.05)
        for k in range(workers):
            self.add(f"w{k}", *options)
        until = time.monotonic() + BEGIN_S
        while not all("Starting established connection" in self.said(f"w{k}") for k in range(workers)):
            assert time.monotonic() < until
            time.sleep(0.05)

    def add(self, name, *options, within=()):
        """Start a Dask worker with a nanny. ``within``: a program, such as unshare, to start it with."""
        threads = () if "--nthreads" in options else ("--nthreads", "1")
        common = ("--no-dashboard", "--local-directory", str(self.folder / name), "--memory-limit", "0")
        self.start("worker", "--scheduler-file", str(self.file), *common, *threads, *options, name=name, within=within)

    def start(self, role, *options, name=None, within=()):
        program = [*within, sys.executable, "-m", "dask", role, *options]
        environment = {**os.environ, "XCORR_TEST_MARK": self.mark, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}
        with (self.folder / f"{name or role}.log").open("ab") as log:
            self.programs[name or role] = subprocess.Popen(
                program, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def said(self, name):
        return (self.folder / f"{name}.log").read_text()

    def processes(self, text):
        """The processes of this cluster with a text in their command line."""
        found = []
        for process in marked(self.mark):
            try:
                line = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if text in line:
                found.append(process)
        return found

    def workers(self):
        """The processes of Dask workers, which nannies start."""
        return self.processes("multiprocessing.spawn") or self.processes("multiprocessing-fork")

    def close(self):
        for key in [key for key in dask_client._clients if key[0] == str(self.file)]:
            dask_client._clients.pop(key).close()  # else it tries to find the scheduler again
        for program in self.programs.values():
            program.send_signal(signal.SIGKILL)
            program.wait()
        until = time.monotonic() + 10
        while (left := marked(self.mark)) and time.monotonic() < until:
            time.sleep(0.05)
        for process in left:
            os.kill(process, signal.SIGKILL)
        assert not left, "processes are left after the end of the cluster"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

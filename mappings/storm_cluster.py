"""A Storm cluster on this host for development: ZooKeeper, Nimbus and a supervisor, watched by one process, the keeper.

The keeper starts the daemons. It starts a daemon again when the daemon dies, because Storm's daemons are made to fail
fast. It ends all daemons when it is told to. The keeper of a cluster for one run ends them also when this run ends,
even if the run crashes.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xcorr.mappings.storm_home import cache, java, storm_home
from xcorr.mappings.storm_nimbus import Nimbus, StormError

DAEMONS = {  # main class and heap (MB)
    "zookeeper": ("org.apache.storm.command.DevZookeeper", 64),
    "nimbus": ("org.apache.storm.daemon.nimbus.Nimbus", 160),
    "supervisor": ("org.apache.storm.daemon.supervisor.Supervisor", 96),
}
SLOTS = 8  # worker JVMs at once
START_S = 90.0
GRACE_S = 8.0
PR_SET_PDEATHSIG = 1
STATE = "cluster.json"
OPEN_TO_ALL = (
    "the Storm cluster on this host has no authentication and listens on every interface, as Storm does. Anybody who "
    "reaches its ports can run any program as this user; keep the host behind a firewall"
)
_detached: list[subprocess.Popen[bytes]] = []  # keepers that are to outlive this process


class Cluster:
    """A cluster that belongs to this process. :meth:`stop` ends it, and the end of this process ends it too."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="xcorr-storm-"))
        self._keeper = _start_keeper(self.folder, attached=True)
        try:
            self.nimbus = str(_wait_for(self.folder, self._keeper)["nimbus"])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all daemons and remove what they wrote."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def shared_folder() -> Path:
    """Return the folder of the cluster that ``xcorr storm up`` starts."""
    return cache() / "storm-cluster"


def up() -> dict[str, Any]:
    """Start the shared cluster, unless it is up, and return its state."""
    known = status()
    if known is not None:
        return known
    shutil.rmtree(shared_folder(), ignore_errors=True)
    shared_folder().mkdir(parents=True)
    _detached.append(_start_keeper(shared_folder(), attached=False))
    return _wait_for(shared_folder(), _detached[-1])


def status() -> dict[str, Any] | None:
    """Return the state of the shared cluster: ``nimbus``, ``keeper``, ``version``; None if it is not up."""
    try:
        state: dict[str, Any] = json.loads((shared_folder() / STATE).read_text())
        command = Path(f"/proc/{state['keeper']}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return state if b"storm_cluster" in command else None


def down() -> bool:
    """End the shared cluster; return whether it was up."""
    state = status()
    if state is None:
        return False
    os.kill(state["keeper"], signal.SIGTERM)
    deadline = time.monotonic() + 30
    while status() is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    for keeper in _detached:
        keeper.wait()  # so that one this process has started itself does not stay behind as a zombie
    shutil.rmtree(shared_folder(), ignore_errors=True)
    return True


def _start_keeper(folder: Path, attached: bool) -> subprocess.Popen[bytes]:
    storm_home()  # raises an error here if Java or Maven is missing
    with (folder / "keeper.log").open("wb") as log:
        how = "attached" if attached else "shared"
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "xcorr.mappings.storm_cluster", str(folder), how],
            stdin=subprocess.PIPE if attached else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_for(folder: Path, keeper: subprocess.Popen[bytes]) -> dict[str, Any]:
    while not (folder / STATE).exists():
        if keeper.poll() is not None:
            last = (folder / "keeper.log").read_text().strip().splitlines()
            raise StormError(f"the Storm cluster did not come up: {last[-1] if last else 'no reason given'}")
        time.sleep(0.1)
    state: dict[str, Any] = json.loads((folder / STATE).read_text())
    return state


# -- the keeper ----------------------------------------------------------------------------------------------


class Keeper:
    """Starts, watches and ends the daemons of one cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = storm_home()
        for part in ("lib", "lib-worker", "log4j2"):
            (folder / part).symlink_to(self.home / part)
        for part in ("conf", "extlib", "logs"):
            (folder / part).mkdir()
        self.ports = _free_ports(3 + SLOTS)
        (folder / "conf" / "storm.yaml").write_text(json.dumps(self._settings(), indent=1))  # JSON is YAML
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.sessions: list[int] = []
        self.leaving = threading.Event()

    def _settings(self) -> Mapping[str, Any]:
        zookeeper, nimbus, supervisor, *slots = self.ports
        return {
            "storm.zookeeper.servers": ["localhost"],
            "storm.zookeeper.port": zookeeper,
            "dev.zookeeper.path": str(self.folder / "zookeeper"),
            "storm.local.dir": str(self.folder / "local"),
            "storm.local.hostname": "localhost",
            "storm.log4j2.conf.dir": str(self.folder / "log4j2"),
            "storm.workers.artifacts.dir": str(self.folder / "logs" / "workers"),
            # the default needs RocksDB, which storm_home leaves out
            "storm.metricstore.class": "org.apache.storm.metricstore.NoOpMetricStore",
            "storm.blobstore.replication.factor": 1,
            "nimbus.seeds": ["localhost"],
            "nimbus.thrift.port": nimbus,
            "nimbus.thrift.max_buffer_size": 64 << 20,
            "nimbus.monitor.freq.secs": 2,
            "nimbus.task.launch.secs": 60,
            "supervisor.thrift.port": supervisor,
            "supervisor.slots.ports": slots,
            "supervisor.monitor.frequency.secs": 1,
            "supervisor.worker.shutdown.sleep.secs": 1,
            "worker.childopts": "-Xmx%HEAP-MEM%m -XX:+UseSerialGC",
            "topology.worker.logwriter.childopts": "-Xmx32m -XX:+UseSerialGC",
        }

    def start(self, name: str) -> None:
        """Start a daemon in its own session, so that all processes that it starts can be found and ended."""
        main, heap = DAEMONS[name]
        command = [
            *(java(), f"-Xmx{heap}m", "-XX:+UseSerialGC", f"-Dstorm.home={self.folder}"),
            *(f"-Dstorm.log.dir={self.folder / 'logs'}", f"-Dlogfile.name={name}.log"),
            f"-Dlog4j.configurationFile={self.folder / 'log4j2' / 'cluster.xml'}",
            *("-cp", f"{self.folder}/lib/*:{self.folder}/extlib/*:{self.folder}/conf", main),
        ]
        with (self.folder / "logs" / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder, preexec_fn=_of_parent
            )
        self.processes[name] = process
        self.sessions.append(process.pid)

    def run(self) -> None:
        """Start the cluster, write its state to a file, and keep it running until this process is told to leave."""
        nimbus = f"localhost:{self.ports[1]}"
        try:
            for name in DAEMONS:
                self.start(name)
            self._wait_until_up(nimbus)
            state = {"nimbus": nimbus, "keeper": os.getpid(), "folder": str(self.folder), "sessions": self.sessions}
            (self.folder / f"{STATE}.part").write_text(json.dumps(state))
            (self.folder / f"{STATE}.part").replace(self.folder / STATE)
            while not self.leaving.wait(0.5):
                for name, process in self.processes.items():
                    if process.poll() is not None:
                        print(f"{name} ended with exit code {process.returncode}; started again", flush=True)
                        self.start(name)
        finally:
            self.end()
            (self.folder / STATE).unlink(missing_ok=True)

    def _wait_until_up(self, nimbus: str) -> None:
        deadline = time.monotonic() + START_S
        why = "no reason known"
        while time.monotonic() < deadline and not self.leaving.is_set():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    text = (self.folder / "logs" / f"{name}.out").read_text().strip().splitlines()
                    raise StormError(f"{name} ended with exit code {process.returncode}: {' '.join(text[-3:])}")
            try:
                supervisors, _ = Nimbus(nimbus).slots()
                if supervisors:
                    return
                why = "no supervisor has joined"
            except StormError as error:
                why = str(error)
            time.sleep(0.3)
        raise StormError(f"not up after {START_S:.0f} s: {why}")

    def end(self) -> None:
        """End the daemons and everything they started."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + GRACE_S
            while members := [p for s in self.sessions for p in _in_session(s)]:
                for process in members:
                    send_signal(process, how)
                for daemon in self.processes.values():
                    daemon.poll()
                if time.monotonic() > deadline:
                    break
                time.sleep(0.2)


def _of_parent() -> None:
    """Begin a session in the daemon's process. On Linux, end it when the keeper ends, even if the keeper is killed."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def send_signal(process: int, how: int) -> None:
    """Send a signal to a process, unless it has ended."""
    try:
        os.kill(process, how)
    except ProcessLookupError:
        return  # the process has ended by itself


def _in_session(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            if int(of) == session and state != "Z":
                found.append(int(entry.name))
    return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def main() -> None:
    """Keep a cluster: ``python -m xcorr.mappings.storm_cluster FOLDER attached|shared``."""
    keeper = Keeper(Path(sys.argv[1]))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: keeper.leaving.set())
    if sys.argv[2] == "attached":

        def leave_with_owner() -> None:
            sys.stdin.buffer.read()  # ends when the owner closes its side, or dies
            keeper.leaving.set()

        threading.Thread(target=leave_with_owner, daemon=True).start()
    keeper.run()


if __name__ == "__main__":
    main()

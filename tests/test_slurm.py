"""Runs as jobs of a real SLURM: two nodes, which are both this host (docs/clusters.md)."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from xcorr import results
from xcorr.results.compare import differences

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
SYSTEM = f"{os.environ['PATH']}:/usr/sbin"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(shutil.which(name, path=SYSTEM) for name in DAEMONS),
        reason="needs root and SLURM: apt-get install slurmctld slurmd slurm-client munge",
    ),
]
DEMO = f"{ROOT / 'configs' / 'demo' / 'stations.txt'} -c {ROOT / 'configs' / 'demo' / 'xcorr.toml'}"
CONF = """ClusterName=test
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} Port={ports[1]} CPUs=4 RealMemory=2000
NodeName=n2 NodeHostname={host} Port={ports[2]} CPUs=4 RealMemory=2000
PartitionName=main Nodes=ALL Default=YES State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Start the daemons; the variables of programs that use them."""
    folder = tmp_path_factory.mktemp("slurm")
    places = [socket.create_server(("", 0)) for _ in range(3)]
    ports = [place.getsockname()[1] for place in places]
    for place in places:
        place.close()
    for name in ("state", "spool.n1", "spool.n2"):
        (folder / name).mkdir()
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (folder / "slurm.conf").write_text(CONF.format(host=socket.gethostname(), ports=ports, folder=folder))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    variables = os.environ | {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": SYSTEM, "OPENBLAS_NUM_THREADS": "1"}
    munge = [f"--{name}={folder}/munge.{end}" for name, end in (
        ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed")
    )]  # fmt: skip
    commands = [
        ["munged", "-F", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"],
        ["slurmd", "-D", "-N", "n2"],
    ]  # fmt: skip
    quiet = subprocess.DEVNULL
    daemons = [subprocess.Popen(command, env=variables, stdout=quiet, stderr=quiet) for command in commands]
    try:
        end = time.monotonic() + 60
        while "idle" not in (there := out_of(variables, "sinfo", "-h", "-o", "%T %D")) or " 2" not in there:
            assert time.monotonic() < end, there
            time.sleep(0.5)
        yield variables
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)


def out_of(variables, *command):
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120).stdout


def script_of(tmp_path, *lines):
    """Write a job of 4 tasks on 2 hosts."""
    path = tmp_path / "job.sh"
    head = ("#!/bin/bash", "#SBATCH --nodes=2 --ntasks=4", f". {Path(sys.executable).parent}/activate")
    path.write_text("\n".join((*head, f"cd {tmp_path}", *lines)) + "\n")
    return path


def done(slurm, tmp_path, *lines):
    """Wait for a job; return what it has printed."""
    out_of(slurm, "sbatch", "-W", "-o", str(tmp_path / "out.txt"), str(script_of(tmp_path, *lines)))
    return (tmp_path / "out.txt").read_text()


@pytest.mark.parametrize("start", ["mpiexec", "srun --mpi=pmi2"])
def test_ranks_on_all_hosts_of_a_job(slurm, tmp_path, demo, start):
    where = tmp_path / "where.py"
    where.write_text(
        "import os\nfrom mpi4py import MPI\n"
        "os.write(1, f'rank {MPI.COMM_WORLD.rank} on {os.environ[\"SLURMD_NODENAME\"]}\\n'.encode())\n"
    )
    said = done(
        slurm, tmp_path, f"{start} xcorr run {DEMO} -m mpi -o c.xcorr",
        f"{start} python {where}",
    )  # fmt: skip
    assert "4 worker(s)" in said, said
    assert sorted(set(re.findall(r"rank \d on (n\d)", said))) == ["n1", "n2"], said
    with results.open(demo) as a, results.open(tmp_path / "c.xcorr") as b:
        assert a.gather().tobytes() == b.gather().tobytes()


def test_starts_that_would_be_of_one_host_are_refused(slurm, tmp_path):
    said = done(
        slurm, tmp_path, f"xcorr run {DEMO} -m mpi -o c.xcorr", f"srun --mpi=none xcorr run {DEMO} -m mpi -o d.xcorr"
    )
    assert "xcorr starts ranks on its own host only, and the job has 2 hosts; start mpiexec xcorr run" in said
    assert "srun started 4 tasks that are not ranks of one MPI" in said


def test_one_host_needs_no_mpi(slurm, tmp_path, demo):
    said = done(slurm, tmp_path, f"srun -N 1 -n 1 -c 2 xcorr run {DEMO} -m processes -n 2 -o c.xcorr")
    assert "2 worker(s)" in said, said
    with results.open(demo) as a, results.open(tmp_path / "c.xcorr") as b:
        assert a.gather().tobytes() == b.gather().tobytes()


def test_a_job_that_is_cancelled_goes_on_in_the_next(slurm, tmp_path, demo):
    line = f"mpiexec xcorr run {DEMO} -m mpi -o c.xcorr"
    job = out_of(slurm, "sbatch", "--parsable", "-o", str(tmp_path / "a.txt"), str(script_of(tmp_path, line))).strip()
    end = time.monotonic() + 60
    while not list(tmp_path.glob("c.xcorr/shards/*.h5")):
        assert time.monotonic() < end
        time.sleep(0.01)
    out_of(slurm, "scancel", job)
    while out_of(slurm, "squeue", "-h"):
        assert time.monotonic() < end
        time.sleep(0.2)
    kept = len(list(tmp_path.glob("c.xcorr/shards/*.h5")))
    assert kept < 4
    assert not (tmp_path / "c.xcorr" / "xcorr.h5").exists()
    said = done(slurm, tmp_path, line)
    assert "results" in said, said
    with results.open(demo) as a, results.open(tmp_path / "c.xcorr") as b:
        assert a.gather().tobytes() == b.gather().tobytes()


def test_workers_of_dask_as_jobs(slurm, tmp_path, demo):
    """The script of docs/clusters.md: dask-jobqueue submits jobs, whose Dask workers do the run."""
    (tmp_path / "program.py").write_text(
        "from dask_jobqueue import SLURMCluster\n"
        "import xcorr\n"
        "if __name__ == '__main__':\n"
        "    with SLURMCluster(cores=2, processes=1, memory='500MB', walltime='00:10:00',\n"
        "                      scheduler_options={'dashboard_address': '127.0.0.1:0'}) as cluster:\n"
        "        cluster.scale(jobs=2)\n"
        "        options = {'dask.scheduler': cluster.scheduler_address}\n"
        f"        stations = {str(ROOT / 'configs' / 'demo' / 'stations.txt')!r}\n"
        "        xcorr.run(stations, 'c.xcorr', mapping='dask', workers=4, run=options)\n"
    )
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, env=slurm, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "c.xcorr" / "logs").iterdir())) == 4
    with results.open(demo) as a, results.open(tmp_path / "c.xcorr") as b:
        assert a.gather().tobytes() == b.gather().tobytes()


def test_a_job_array_whose_campaigns_are_merged(slurm, tmp_path, demo):
    script = tmp_path / "array.sh"
    script.write_text(
        f"#!/bin/bash\n#SBATCH --array=0-3 --ntasks=1\n. {Path(sys.executable).parent}/activate\ncd {tmp_path}\n"
        "start=2024-03-01T0$SLURM_ARRAY_TASK_ID:00:00\nend=2024-03-01T0$((SLURM_ARRAY_TASK_ID + 1)):00:00\n"
        f"xcorr run {DEMO} --start $start --end $end -o hours/$SLURM_ARRAY_TASK_ID.xcorr\n"
    )
    out_of(slurm, "sbatch", "-W", "-o", str(tmp_path / "out-%a.txt"), str(script))
    parts = sorted((tmp_path / "hours").iterdir())
    assert len(parts) == 4
    command = [Path(sys.executable).with_name("xcorr"), "merge", *parts, "-o", tmp_path / "c.xcorr"]
    subprocess.run(command, check=True)
    assert list(differences(demo, tmp_path / "c.xcorr")) == []

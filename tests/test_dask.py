"""Dask, for real: a scheduler and workers with nannies, as processes of this machine that are killed."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import elements as e
import numpy as np
import pytest
from archives import weekly
from conftest import ROOT
from dask_cluster import DaskCluster
from elements import chain
from interruptions import killed_in_the_middle

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.campaign.running import NotShared, run_workflow
from xcorr.core import ElementError
from xcorr.core.message import WorkerDied
from xcorr.core.testing import ListSink, ListSource, ScriptedFailure, Slow
from xcorr.mappings import dask, dask_child, run
from xcorr.mappings.dask import DaskError
from xcorr.results.compare import differences
from xcorr.settings.toml import build, load

LIMIT_S = 10.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Three Dask workers of one thread."""
    with DaskCluster(tmp_path_factory.mktemp("dask"), 3) as running:
        yield running


def on(cluster, graph, workers=None, **options):
    return run(graph, mapping="dask", workers=workers, options={"scheduler": str(cluster.file), **options})


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_demo_has_the_same_bits(cluster, demo, tmp_path, workers):
    configs = ROOT / "configs" / "demo"
    plain = load(configs / "xcorr.toml")
    plain["run"] = {"mapping": "dask", "workers": workers, "dask": {"scheduler": str(cluster.file)}}
    finished = run_campaign(configs / "stations.txt", tmp_path / "x.xcorr", build(plain))
    assert finished.exit_code == 0
    assert len(finished.report["workers"]["wall_seconds"]) == workers
    assert list(differences(demo, tmp_path / "x.xcorr")) == []
    with results.open(demo) as a, results.open(tmp_path / "x.xcorr") as b:
        assert a.gather().tobytes() == b.gather().tobytes()
    assert not cluster.processes("dask_child")


@pytest.mark.parametrize("shared", [pytest.param(True, marks=pytest.mark.slow), False])
def test_arrays_of_any_size_arrive_as_they_were(tmp_path, shared, monkeypatch):
    """Without shared memory as between hosts: here a Dask worker that is in a container, with processes of its own."""
    if not shared:
        within = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")
        if subprocess.run([*within, "true"], capture_output=True).returncode:
            pytest.skip("this system lets nobody make a namespace (unshare)")
    rng = np.random.default_rng(1)
    items = [rng.standard_normal(n) for n in (1, 5000, 1_000_000)] * 5 + [np.asfortranarray(np.eye(300))]
    source, sink = ListSource(items), ListSink()
    source.worker, sink.worker = 0, 1
    with DaskCluster(tmp_path, 1) as running:
        running.add("other", within=() if shared else within)
        ((got,),) = (p["output"] for p in on(running, chain(source, sink), 2).results.values())
    assert [g.tobytes() for g in got] == [i.tobytes() for i in items]
    assert all(g.flags.writeable for g in got if g.nbytes > 40_000)


def test_an_exception_ends_the_run_with_its_traceback(cluster):
    with pytest.raises(ElementError, match="scripted failure at 7") as caught:
        on(cluster, chain(ListSource(range(20)), ScriptedFailure(at=[7]), ListSink()), 2)
    assert "Traceback" in caught.value.traceback_text
    assert not cluster.processes("sleep")


def test_workers_of_several_threads_have_as_many_processes(tmp_path):
    with DaskCluster(tmp_path, 1, "--nthreads", "3") as running:
        assert len(on(running, chain(ListSource(range(9)), e.Counter(), ListSink())).workers) == 3


def test_workers_are_spread_over_dask_workers():
    threads = {"tcp://a:1": 4, "tcp://b:1": 2, "tcp://c:1": 1}
    assert dask._spread(threads, 3) == ["tcp://a:1", "tcp://b:1", "tcp://c:1"]
    assert dask._spread(threads, 4) == ["tcp://a:1", "tcp://a:1", "tcp://b:1", "tcp://c:1"]
    assert sorted(dask._spread(threads, 7)) == ["tcp://a:1"] * 4 + ["tcp://b:1"] * 2 + ["tcp://c:1"]


def long_run(cluster, errors, workers=3):
    """Run a workflow that would take minutes, in a thread; its error goes to a list."""

    def call():
        try:
            on(cluster, chain(ListSource(range(10_000)), Slow(0.05), ListSink()), workers)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    until = time.monotonic() + 30
    while len(cluster.processes("dask_server")) < 3 * workers and not errors:  # a server, and two for the worker
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.5)
    return thread


def victims(cluster, which):
    """The processes that a kill of something means."""
    if which == "worker":
        return cluster.workers()[:1]
    if which == "nanny":
        return [cluster.programs["w0"].pid]
    if which == "scheduler":
        return [cluster.programs["scheduler"].pid]
    return cluster.processes("dask_server")[-1:]  # a process of the run


def require_a_soon_end(tmp_path, which, wait_s=0.0):
    errors = []
    with DaskCluster(tmp_path, 3) as running:
        thread = long_run(running, errors)
        time.sleep(wait_s)
        for process in victims(running, which):
            os.kill(process, signal.SIGKILL)
        begin = time.monotonic()
        thread.join(2 * LIMIT_S)
        assert time.monotonic() - begin < LIMIT_S
        (error,) = errors
        assert isinstance(error, WorkerDied), error
        until = time.monotonic() + LIMIT_S
        while running.processes("dask_server") and which != "scheduler" and time.monotonic() < until:
            if len(running.processes("dask_server")) <= 3:  # servers stay for the next run
                break
            time.sleep(0.05)
        else:
            assert which == "scheduler" or not running.processes("dask_server")


@pytest.mark.parametrize("which", ["worker", pytest.param("nanny", marks=pytest.mark.slow), "scheduler", "process"])
def test_a_kill_ends_the_run_soon(tmp_path, which):
    require_a_soon_end(tmp_path, which)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_random_kills_never_hang(tmp_path, number):
    chance = random.Random(number)
    which = chance.choice(["worker", "nanny", "scheduler", "process"])
    require_a_soon_end(tmp_path, which, chance.uniform(0, 3))


def test_work_that_dask_repeats_is_refused(tmp_path):
    """A nanny starts its worker again at the same address, and Dask sends the task there again."""
    errors = []
    with DaskCluster(tmp_path, 0) as running:
        port = free_port()
        running.add("w0", "--worker-port", str(port))
        thread = long_run(running, errors, 1)
        os.kill(running.workers()[0], signal.SIGKILL)
        thread.join(30)
    (error,) = errors
    assert isinstance(error, WorkerDied)


def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as place:
        return place.getsockname()[1]


PROGRAM = """
import sys
from elements import chain
from interruptions import killed_in_the_middle
from xcorr.core.testing import ListSink, ListSource, Slow
from xcorr.mappings import run
if __name__ == "__main__":
    run(chain(ListSource(range(10_000)), Slow(0.05), ListSink()), mapping="dask", options={"scheduler": sys.argv[1]})
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_caller_ends_the_run(cluster, tmp_path, how):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen([sys.executable, script, cluster.file], env=environment, stderr=subprocess.PIPE) as program:
        until = time.monotonic() + 20
        before = len(cluster.processes("dask_server"))
        while len(cluster.processes("dask_server")) < before + 9 and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        program.send_signal(how)
        program.communicate(timeout=LIMIT_S)
    until = time.monotonic() + LIMIT_S
    while len(cluster.processes("dask_server")) > before + 3 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(cluster.processes("dask_server")) <= before + 3  # servers, which end when they are idle
    assert on(cluster, chain(ListSource([1, 2]), e.Counter(), ListSink()), 3).results  # and the cluster is of use


@pytest.mark.parametrize("which", ["worker", pytest.param("nanny", marks=pytest.mark.slow)])
def test_a_campaign_goes_on_with_the_workers_that_are_left(weeks, tmp_path, which, caplog):
    folder = tmp_path / "x.xcorr"
    with DaskCluster(tmp_path, 3) as running:
        chosen = {"mapping": "dask", "workers": 3, "dask.scheduler": str(running.file), "dask.wait_s": 1}
        finished, stored = killed_in_the_middle(
            folder,
            12,
            lambda: victims(running, which)[0],
            lambda: run_campaign(weeks / "stations.txt", folder, weekly(weeks, run=chosen)),
        )
    assert finished.exit_code == 0
    assert list(differences(weeks / "whole.xcorr", folder)) == []
    assert "going on with what is stored" in caplog.text
    assert finished.report["shards_kept"] >= stored


@pytest.mark.slow
def test_an_adaptive_cluster_keeps_workers_that_are_at_work():
    import distributed

    at_work = ListSource(range(40))
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as adaptive:

        def shrink():
            time.sleep(1.0)  # the run of two seconds has begun
            adaptive.adapt(minimum=0, maximum=2, interval="100ms", wait_count=1)

        thread = threading.Thread(target=shrink)
        thread.start()
        outcome = run(
            chain(at_work, Slow(0.1), ListSink()),
            mapping="dask",
            workers=2,
            options={"scheduler": adaptive.scheduler_address},
        )
        thread.join()
        ((got,),) = (p["output"] for p in outcome.results.values())
        assert sorted(got) == list(range(40))
        until = time.monotonic() + 20
        while adaptive.scheduler_info["workers"]:  # they were to be retired, and are now
            assert time.monotonic() < until
            time.sleep(0.1)


def test_bad_clusters_are_named(tmp_path, monkeypatch):
    graph = chain(ListSource([1]), ListSink())
    with pytest.raises(DaskError, match="neither an address such as tcp://host:8786 nor a scheduler file"):
        run(graph, mapping="dask", options={"scheduler": "no/such/file"})
    monkeypatch.setattr("xcorr.mappings.dask_client.CONNECT_S", 1.0)
    with pytest.raises(DaskError, match="no Dask scheduler answers at tcp://127.0.0.1"):
        run(graph, mapping="dask", options={"scheduler": f"tcp://127.0.0.1:{free_port()}"})
    with DaskCluster(tmp_path, 0) as running, pytest.raises(DaskError, match="has no workers, after 0.5 s"):
        on(running, graph, wait_s=0.5)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DaskError, match=r"pip install 'xcorr\[dask\]'"):
        run(graph, mapping="dask", options={"scheduler": "tcp://elsewhere:1"})


def test_fewer_threads_than_asked_for_are_said(cluster, caplog):
    outcome = on(cluster, chain(ListSource([1]), ListSink()), 5, wait_s=0.2)
    assert len(outcome.workers) == 3
    assert "the Dask cluster has 3 thread(s), and 5 were asked for" in caplog.text


def test_other_software_on_a_host_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(dask, "software", lambda: {**dask_child.software(), "numpy": "1.0", "xcorr": "9"})
    with pytest.raises(DaskError, match=r"has xcorr .* \(here 9\), numpy .* \(here 1\.0\); install the same there"):
        on(cluster, chain(ListSource([1]), ListSink()), 2)


def test_other_processors_are_said(cluster, caplog):
    run_of = dask._Run(dask.client(str(cluster.file), 1), dask_plan(), ())
    place = dask_child._place(("127.0.0.1", 1), os.open("/dev/null", os.O_RDONLY))
    run_of._compare({0: place, 1: place._replace(processor="another")})
    assert "processors differ" in caplog.text


def dask_plan():
    from xcorr.core import make_plan

    return make_plan(chain(ListSource([1]), ListSink()), 2)


def test_a_folder_that_workers_do_not_see_is_named(cluster, weeks, tmp_path, monkeypatch):
    """As if another host had a folder of the same name: what a worker looks for is not there."""
    settings = weekly(weeks, run={"mapping": "dask", "workers": 2, "dask.scheduler": str(cluster.file)})
    monkeypatch.setattr("xcorr.campaign.running.SEEN_S", 0.2)
    real = Path.touch
    monkeypatch.setattr(Path, "touch", lambda self, *a: None if self.suffix == ".part" else real(self, *a))
    with pytest.raises(NotShared, match=f"does not see {tmp_path} of this campaign; all workers must share"):
        run_workflow(tmp_path, settings, chain(ListSource([1]), ListSink()), [])


def test_the_batch_script_of_dask_jobqueue_starts_workers_of_this_environment(tmp_path):
    """In a program of its own, because the import of dask_jobqueue takes over SIGINT."""
    program = (
        "import dask_jobqueue\n"
        "if __name__ == '__main__':\n"
        "    how = {'cores': 4, 'processes': 1, 'memory': '8GB', 'walltime': '01:00:00', 'n_workers': 0}\n"
        "    options = {'dashboard_address': '127.0.0.1:0'}\n"
        "    with dask_jobqueue.SLURMCluster(**how, scheduler_options=options) as batch:\n"
        "        print(batch.job_script())\n"
    )
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert f"{sys.executable} -m distributed.cli.dask_worker" in done.stdout
    assert "--nthreads 4" in done.stdout
    assert "#SBATCH --cpus-per-task=4" in done.stdout


def test_a_worker_that_leaves_with_data_of_others_ends_the_run(tmp_path):
    """It is "closing gracefully" while its data move to others, and must not seem to have finished."""
    import distributed

    errors = []
    with DaskCluster(tmp_path, 2) as running, distributed.Client(scheduler_file=str(running.file)) as other:
        thread = long_run(running, errors, 2)
        workers = sorted(other.nthreads())
        kept = [other.submit(bytes, 2_000_000, workers=workers[:1], pure=False) for _ in range(200)]
        distributed.wait(kept)
        other.retire_workers(workers[:1])
        thread.join(2 * LIMIT_S)
    (error,) = errors
    assert isinstance(error, WorkerDied)


@pytest.mark.slow
def test_workers_that_are_busy_or_paused_are_waited_for_and_named(tmp_path, monkeypatch, caplog):
    import distributed

    monkeypatch.setattr(dask, "PATIENCE_S", 0.5)
    graph = chain(ListSource([1, 2]), e.Counter(), ListSink())
    with DaskCluster(tmp_path, 2) as running, distributed.Client(scheduler_file=str(running.file)) as other:
        busy = [other.submit(time.sleep, 3, workers=[w], pure=False) for w in other.nthreads()]
        time.sleep(0.5)
        assert on(running, graph, 2).results == {"ListSink": {"output": [[1, 2]]}}
        assert "which are busy with other tasks or paused" in caplog.text
        distributed.wait(busy)

        def pause(dask_worker):  # within, so that the Dask worker need not import this module
            dask_worker.memory_manager.memory_pause_fraction = False
            dask_worker.status = type(dask_worker.status).paused

        other.run(pause, workers=sorted(other.nthreads())[:1])
        time.sleep(1.0)
        assert len(on(running, graph, 2, wait_s=0.2).workers) == 1
        monkeypatch.setattr(dask, "BEGIN_S", 2.0)
        busy = [other.submit(time.sleep, 6, workers=[w], pure=False) for w in other.nthreads()]
        time.sleep(0.5)
        with pytest.raises(DaskError, match="did not begin within 2 s, because they are busy"):
            on(running, graph, 1)


def test_what_elements_have_started_ends_with_a_killed_dask_worker(tmp_path):
    errors = []
    with DaskCluster(tmp_path, 1) as running:

        def call():
            try:
                on(running, chain(ListSource([1]), e.StartsProgram("sleep", "987"), ListSink()), 1)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        until = time.monotonic() + 20
        while not running.processes("sleep 987"):
            assert time.monotonic() < until
            time.sleep(0.05)
        os.kill(running.programs["w0"].pid, signal.SIGKILL)
        for process in running.workers():
            os.kill(process, signal.SIGKILL)
        until = time.monotonic() + 5
        while running.processes("sleep 987"):
            assert time.monotonic() < until, "the program of an element is left"
            time.sleep(0.05)
        thread.join(20)
    assert isinstance(errors[0], WorkerDied)


def test_modules_are_those_of_the_caller(cluster, tmp_path):
    """An empty entry of the search path means the caller's folder, not that of the Dask worker."""
    for folder, where in ((tmp_path, "here"), (cluster.folder, "there")):
        (folder / "own_module.py").write_text(
            "from xcorr.core import IterativePE\nclass Where(IterativePE):\n"
            f"    def _process(self, item):\n        return {where!r}\n"
        )
    code = (
        "from elements import chain; from own_module import Where; from xcorr.mappings import run;"
        "from xcorr.core.testing import ListSink, ListSource;"
        "graph = chain(ListSource([1]), Where(), ListSink());"
        f"print(run(graph, mapping='dask', workers=2, options={{'scheduler': {str(cluster.file)!r}}}).results)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert "here" in done.stdout, done.stderr


def test_every_record_is_heard_once_whatever_the_scheduler_is_called(cluster, caplog):
    import json

    caplog.set_level("INFO")
    address = json.loads(cluster.file.read_text())["address"]
    port = address.rpartition(":")[2]
    for scheduler in (str(cluster.file), address, cluster.file, f"{address}/", f"tcp://localhost:{port}"):
        caplog.clear()
        run(chain(ListSource(range(30)), e.Talking(), ListSink()), mapping="dask", options={"scheduler": scheduler})
        assert sum("got " in record.message for record in caplog.records) == 30


def said(tmp_path, program):
    """Return the lines that a script prints; it says nothing else."""
    script = tmp_path / "program.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_process_forked_of_one_that_is_connected_is_refused_and_harms_nothing(tmp_path):
    first, refused, status, last = said(
        tmp_path,
        "import os\nfrom elements import chain\nfrom xcorr.core.testing import ListSink, ListSource\n"
        "from xcorr.mappings import run\n"
        "def go():\n"
        "    found = run(chain(ListSource([1]), ListSink()), mapping='dask', workers=2)\n"
        "    return [r['output'] for r in found.results.values()]\n"
        "if __name__ == '__main__':\n"
        "    print(go(), flush=True)\n"
        "    child = os.fork()\n"
        "    if child:\n"
        "        print(os.waitpid(child, 0)[1])\n"
        "    try:\n"
        "        print(go())\n"
        "    except Exception as error:\n"
        "        print(error, flush=True)\n"
        "    if not child:\n"
        "        os._exit(0)  # as multiprocessing ends a process\n",
    )
    assert (first, status, last) == ("[[[1]]]", "0", "[[[1]]]")
    assert refused.startswith("this process was forked of one that is connected to Dask")


def test_an_own_cluster_ends_without_a_word(tmp_path):
    (line,) = said(
        tmp_path,
        "from elements import chain\nfrom xcorr.core.testing import ListSink, ListSource\n"
        "from xcorr.mappings import run\nif __name__ == '__main__':\n"
        "    print(run(chain(ListSource([1]), ListSink()), mapping='dask', workers=2).results)\n",
    )
    assert line.endswith("[[1]]}}")


@pytest.mark.parametrize("content", [None, "", "text", "{}", "[1]"])
def test_scheduler_files_that_are_none_are_named(tmp_path, content):
    path = "" if content is None else tmp_path / "file.json"
    if path:
        path.write_text(content)
    with pytest.raises(DaskError, match="neither an address such as tcp://host:8786 nor a scheduler file"):
        run(chain(ListSource([1]), ListSink()), mapping="dask", options={"scheduler": path})


@pytest.mark.parametrize("mapping", ["dask", pytest.param("mpi", marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["script", "standard input"])
def test_a_campaign_needs_no_guard(demo, tmp_path, mapping, how):
    """Workers do not import the script of a program that uses only the application's own elements."""
    stations = ROOT / "configs" / "demo" / "stations.txt"
    program = f"import xcorr\nxcorr.run({str(stations)!r}, 'x.xcorr', mapping={mapping!r}, workers=2)\n"
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "program.py"] if how == "script" else [sys.executable, "-"]
    given = None if how == "script" else program
    done = subprocess.run(command, input=given, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert list(differences(demo, tmp_path / "x.xcorr")) == []

"""A disk of any small size, which is full at one moment or another of a run: one message, and nothing lost."""

import subprocess
import sys

import pytest
from conftest import ROOT

from xcorr.results.compare import differences
from xcorr.store.verify import problems

SCRIPT = """
mount -t tmpfs -o size=$2k tmpfs $1 || exit 99
cd $1
{python} -m xcorr run {stations} -o x.xcorr {options} >$3/first.txt 2>&1
echo $? >$3/first
{python} -m xcorr verify x.xcorr >$3/verify.txt 2>&1  # must end, whatever is there
echo $? >$3/verify
mount -o remount,size=64m $1
{python} -m xcorr run {stations} -o x.xcorr >$3/second.txt 2>&1
echo $? >$3/second
cp -r x.xcorr $3/x.xcorr
"""


def on_a_small_disk(tmp_path, kilobytes, *options):
    """Run the demo on a file system of its own, seen by these processes alone; then again with enough room."""
    (tmp_path / "disk").mkdir()
    stations = ROOT / "configs" / "demo" / "stations.txt"
    script = SCRIPT.format(python=sys.executable, stations=stations, options=" ".join(options))
    for rights in (["-m"], ["-rm"]):  # as root, or as a user who may have a namespace of his own
        command = ["unshare", *rights, "sh", "-c", script, "sh", tmp_path / "disk", str(kilobytes), tmp_path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if (tmp_path / "second").exists():
            break
    else:
        pytest.fail(f"no file system can be mounted here, as root or with unshare -rm: {done.stderr}")
    return [int((tmp_path / name).read_text()) for name in ("first", "verify", "second")]


def check(tmp_path, demo, kilobytes, *options):
    first, verified, second = on_a_small_disk(tmp_path, kilobytes, *options)
    said = (tmp_path / "first.txt").read_text()
    if first:
        assert first == 1, said
        lines = [line for line in said.splitlines() if line]
        assert len(lines) == 1, said
        assert "full" in lines[0] or "has" in lines[0], said
        assert "free" in lines[0] or "make room" in lines[0], said
    assert verified in (0, 1), (tmp_path / "verify.txt").read_text()
    assert "Traceback" not in (tmp_path / "verify.txt").read_text()
    assert second == 0, (tmp_path / "second.txt").read_text()
    assert list(problems(tmp_path / "x.xcorr")) == []
    assert list(differences(tmp_path / "x.xcorr", demo)) == []
    return first


@pytest.mark.parametrize("kilobytes", [160, 1500])
def test_a_full_disk_ends_a_run_in_one_message(tmp_path, demo, kilobytes):
    check(tmp_path, demo, kilobytes)


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", "-m threads -n 2", "-m processes -n 2", "-m mpi -n 2"])
def test_full_disks_of_all_sizes(tmp_path, demo, options):
    ended = []
    for kilobytes in range(100, 4000, 150):
        folder = tmp_path / str(kilobytes)
        folder.mkdir()
        ended.append(check(folder, demo, kilobytes, options))
    assert set(ended) == {0, 1}

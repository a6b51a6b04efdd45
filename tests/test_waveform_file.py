"""Reading and writing waveforms from several threads: each gets its own errors, and nobody crashes."""

import tarfile
import threading
from pathlib import Path

import numpy as np
import obspy
import pytest

from xcorr.pes.reading.waveform_file import LARGE, read_waveforms, write_miniseed

RECORD = 512
ALWAYS = 0, 10**18


@pytest.fixture
def recording(rng):
    """A trace that takes many records."""
    data = rng.integers(-500, 500, 20_000).astype(np.int32)
    return obspy.Trace(data, {"network": "XX", "station": "AAA", "channel": "BHZ"})


@pytest.fixture
def good(recording, tmp_path):
    path = tmp_path / "good.mseed"
    recording.write(str(path), format="MSEED", encoding="STEIM2", reclen=RECORD)
    return path


@pytest.fixture
def damaged(good, tmp_path):
    content = bytearray(good.read_bytes())
    content[5 * RECORD + 72 : 5 * RECORD + 104] = b"\xff" * 32
    path = tmp_path / "damaged.mseed"
    path.write_bytes(content)
    return path


def test_threads_get_the_errors_of_their_own_files(recording, good, damaged, tmp_path):
    """With ObsPy alone this ends the process, or gives one file's errors to another (obspy issue 3114)."""
    said = {name: [] for name in ("good", "damaged")}

    def read(name, path):
        for _ in range(100):
            said[name].append(read_waveforms(str(path), *ALWAYS).wrong)

    def write():
        for k in range(50):
            write_miniseed([recording], tmp_path / f"written-{k}")

    threads = [threading.Thread(target=read, args=a) for a in (("good", good), ("damaged", damaged)) * 2]
    threads.append(threading.Thread(target=write))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said["good"] == [[]] * 200
    assert all(text.startswith("1 of ") and "Data integrity check" in text for (text,) in said["damaged"])
    assert len(said["damaged"]) == 200
    assert all(np.array_equal(obspy.read(p)[0].data, recording.data) for p in Path(tmp_path).glob("written-*"))


@pytest.mark.parametrize("kind", ["path", "content", "large"])
def test_files_and_content_hold_the_same(recording, good, kind, monkeypatch):
    assert good.stat().st_size < LARGE
    if kind == "large":
        monkeypatch.setattr("xcorr.pes.reading.waveform_file.LARGE", 1000)
    (found,), wrong, _ = read_waveforms(good.read_bytes() if kind == "content" else str(good), *ALWAYS)
    assert not wrong
    assert np.array_equal(found.data, recording.data)
    assert found.seed_id == recording.id


def test_other_formats_are_read_as_well(recording, tmp_path):
    path = tmp_path / "a.sac"
    recording.data = recording.data.astype(np.float32)
    recording.write(str(path), format="SAC")
    (found,), _, _ = read_waveforms(str(path), *ALWAYS)
    assert np.array_equal(found.data, recording.data)


def test_a_tar_whose_first_name_looks_like_a_record_is_a_tar(recording, good, tmp_path):
    with tarfile.open(tmp_path / "days.tar", "w", format=tarfile.USTAR_FORMAT) as packed:
        packed.add(good, "000001D .mseed")
        packed.add(good, "000002D .mseed")
    content = bytearray((tmp_path / "days.tar").read_bytes())
    for header in (0, 512 * (1 + -(-good.stat().st_size // 512))):  # as tars before POSIX: without the word
        content[header + 257 : header + 265] = bytes(8)
        content[header + 148 : header + 156] = b" " * 8
        content[header + 148 : header + 156] = b"%06o\0 " % sum(content[header : header + 512])
    (tmp_path / "old.tar").write_bytes(content)
    for name in ("days.tar", "old.tar"):
        found = read_waveforms(str(tmp_path / name), *ALWAYS)
        assert [np.array_equal(w.data, recording.data) for w in found.waveforms] == [True, True], name

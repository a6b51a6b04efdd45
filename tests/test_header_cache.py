"""The index of many files: read once, kept, and never believed of a file that has changed."""

import os
import shutil
import time

import numpy as np
import pytest
from archives import START, trace

from xcorr.pes.reading import files as module
from xcorr.pes.reading.files import Files, FilesOptions
from xcorr.pes.reading.header_cache import cache_folder
from xcorr.pes.reading.source import Wanted

WANTED = Wanted((("*", "*"),))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


def made(folder, count, tmp_path):
    """Write many files, alike but for the station and the day, by altering the headers of one."""
    trace("S0000", np.arange(50, dtype=np.int32), 1.0).write(str(tmp_path / "one"), format="MSEED", reclen=512)
    content = (tmp_path / "one").read_bytes()
    assert content[8:13] == b"S0000"
    folder.mkdir()
    for k in range(count):
        station, day = k % 1000, k // 1000
        body = bytearray(content)
        body[8:13] = f"S{station:04d}".encode()
        body[22:24] = (61 + day).to_bytes(2, "big")
        (folder / f"{k:06d}.mseed").write_bytes(bytes(body))
    old = time.time() - 3600
    for path in folder.iterdir():
        os.utime(path, (old, old))


def counted(monkeypatch):
    """Count the files that are read."""
    read, paths = module.read_headers, []

    def reading(path):
        paths.append(path)
        return read(path)

    monkeypatch.setattr(module, "read_headers", reading)
    return paths


def index_of(folder, trust="refuse"):
    return Files(str(folder), FilesOptions(trust)).index(WANTED)


def test_what_is_kept_is_what_was_read(tmp_path, cache, monkeypatch):
    made(tmp_path / "in", 1200, tmp_path)
    (tmp_path / "in" / "notes.txt").write_text("not waveforms")
    (tmp_path / "in" / "bad.mseed").write_bytes(b"\x00\x01" * 300)
    paths = counted(monkeypatch)
    first = index_of(tmp_path / "in")
    assert len(paths) == 1202
    assert sum(map(len, first.coverages.values())) == 1200
    paths.clear()
    second = index_of(tmp_path / "in")
    assert [os.path.basename(p) for p in paths] == ["bad.mseed", "notes.txt"], "what was odd is looked at again"
    assert second == first
    start = int(START.timestamp * 1e9)
    assert first.coverages["XX", "S0000"][0].start_ns == start
    assert first.coverages["XX", "S0000"][1].start_ns == start + 86_400 * 10**9
    assert len(list(cache.iterdir())) == 1


def test_files_that_changed_came_or_went(tmp_path, cache, monkeypatch):
    folder = tmp_path / "in"
    made(folder, 600, tmp_path)
    index_of(folder)
    paths = counted(monkeypatch)
    trace("NEW", np.arange(50, dtype=np.int32), 2.0).write(str(folder / "000003.mseed"), format="MSEED", reclen=512)
    (folder / "000004.mseed").unlink()
    shutil.copy(folder / "000005.mseed", folder / "more.mseed")
    found = index_of(folder)
    assert sorted(os.path.basename(p) for p in paths) == ["000003.mseed", "more.mseed"]
    assert found.coverages["XX", "NEW"][0].rate_hz == 2.0
    assert ("XX", "S0004") not in found.coverages
    assert len(found.coverages["XX", "S0005"]) == 2
    paths.clear()
    assert index_of(folder) == found
    assert {os.path.basename(p) for p in paths} <= {"000003.mseed", "more.mseed"}, "changed a moment ago"
    old = time.time() - 60
    for name in ("000003.mseed", "more.mseed"):
        os.utime(folder / name, (old, old))
    index_of(folder)
    paths.clear()
    assert index_of(folder) == found
    assert paths == []


def test_another_choice_is_another_index(tmp_path, cache):
    made(tmp_path / "in", 600, tmp_path)
    template = f"{tmp_path}/in/{{sta}}.mseed"
    by_name = Files(template, FilesOptions("name")).index(WANTED)
    by_header = Files(template, FilesOptions("header")).index(WANTED)
    again = Files(template, FilesOptions("name")).index(WANTED)
    assert ("XX", "000000") in by_name.coverages
    assert ("XX", "S0000") in by_header.coverages
    assert again == by_name


@pytest.mark.parametrize("damage", [b"", b"not a database" * 100, None])
def test_a_damaged_index_costs_only_time(tmp_path, cache, damage, caplog):
    folder = tmp_path / "in"
    made(folder, 600, tmp_path)
    found = index_of(folder)
    (kept,) = cache.iterdir()
    if damage is None:
        content = bytearray(kept.read_bytes())
        content[5000:9000] = os.urandom(4000)
        kept.write_bytes(bytes(content))
    else:
        kept.write_bytes(damage)
    assert index_of(folder) == found
    assert index_of(folder) == found


def test_a_cache_that_cannot_be_written(tmp_path, cache):
    made(tmp_path / "in", 600, tmp_path)
    cache.parent.parent.mkdir(parents=True, exist_ok=True)
    cache.parent.write_text("a file where a folder should be")
    assert sum(map(len, index_of(tmp_path / "in").coverages.values())) == 600


def test_few_files_are_not_kept(tmp_path, cache):
    made(tmp_path / "in", 100, tmp_path)
    index_of(tmp_path / "in")
    assert not cache.exists()


@pytest.mark.slow
def test_100_000_files(tmp_path, cache):
    made(tmp_path / "in", 100_000, tmp_path)
    first = index_of(tmp_path / "in")
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        second = index_of(tmp_path / "in")
        seconds.append(time.perf_counter() - begin)
        assert second == first
    print(f"{min(seconds):.2f} s")
    assert min(seconds) < 4  # on a machine that does other things; alone 2

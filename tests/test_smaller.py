"""Series in fewer bytes: rounding, compression, and what happens where a filter is missing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from archives import settings, station_list, write
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xcorr import results
from xcorr.campaign.compact import compact
from xcorr.campaign.run import run_campaign
from xcorr.pes.storing.shards import series_path
from xcorr.pes.storing.smaller import rounded, share_of_bytes
from xcorr.results.compare import differences
from xcorr.settings.schema import SettingsError
from xcorr.store.pack import pack
from xcorr.store.verify import problems

CODES = ("AAA", "BBB", "CCC", "DDD")
FLOATS = arrays(np.float32, 40, elements=st.floats(width=32, allow_nan=True, allow_infinity=True))


@given(FLOATS, st.integers(1, 23))
def test_rounding_is_within_half_of_the_last_bit(values, bits):
    found = rounded(values, bits)
    usual = np.isfinite(values) & (np.abs(values) >= np.finfo(np.float32).tiny) & np.isfinite(found)
    with np.errstate(all="ignore"):
        error = np.abs(found[usual].astype(float) / values[usual].astype(float) - 1)
    assert (error <= 2.0 ** -(bits + 1) if bits < 23 else error == 0).all()
    assert found[~np.isfinite(values)].tobytes() == values[~np.isfinite(values)].tobytes()
    assert rounded(found, bits).tobytes() == found.tobytes()
    left = found[np.isfinite(values)].view(np.uint32)
    assert not (left & np.uint32((1 << (23 - bits)) - 1)).any(), "bits that should be zero are not"


@given(arrays(np.float32, 40, elements=st.floats(2.0**-14, 60_000, width=32)))
def test_ten_bits_are_those_of_float16(values):
    assert np.array_equal(rounded(values, 10), values.astype(np.float16).astype(np.float32))
    assert np.array_equal(rounded(-values, 10), (-values).astype(np.float16).astype(np.float32))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("smaller")
    for code in CODES:
        write(root / "sds", code)
    station_list(root, *CODES)
    return root


def made(archive: Path, folder: Path, run: dict[str, object] | None = None, **stack: object) -> Path:
    how = settings(archive / "sds", stack={"substack_s": 900, "methods": ["linear", "pws"], **stack}, run=run or {})
    assert run_campaign(archive / "stations.txt", folder, how).exit_code == 0
    return folder


@pytest.fixture(scope="module")
def whole(archive):
    return made(archive, archive / "whole.xcorr")


@pytest.fixture(scope="module")
def small(archive):
    return made(archive, archive / "small.xcorr", compression="lz4", series_bits=10)


def series_bytes(folder: Path) -> int:
    size = 0
    for path in (folder / "shards").glob("*.h5"):
        with h5py.File(path) as file:
            size += file[series_path("", "ZZ")].id.get_storage_size()
    return size


def of_series(folder: Path) -> np.ndarray:
    with results.open(folder) as found:
        rows = range(len(found.pairs))
        return np.stack([found.get(*found.pairs.iloc[r][["station_1", "station_2"]], stack=None).values for r in rows])


@pytest.mark.parametrize("compression", ["gzip", "lz4"])
def test_compression_alone_changes_no_bit(archive, whole, tmp_path, compression):
    other = made(archive, tmp_path / "x.xcorr", compression=compression)
    assert list(differences(whole, other)) == []
    assert series_bytes(other) < 0.95 * series_bytes(whole)


def test_series_are_rounded_and_take_half_of_the_bytes(whole, small):
    assert np.array_equal(of_series(small), rounded(of_series(whole), 10))
    assert list(problems(small)) == []
    share = series_bytes(small) / series_bytes(whole)
    assert share < 0.55
    assert abs(share / share_of_bytes("lz4", 10) - 1) < 0.15  # as xcorr plan says


def test_the_forecast_counts_compressed_bytes(archive, tmp_path, invoke, whole, small):
    def forecast(*more: str) -> int:
        how = ("--source", f"sds:{archive / 'sds'}", "--set", "stack.substack_s=900", "--json", *more)
        done = invoke("plan", archive / "stations.txt", "-o", tmp_path / "x.xcorr", "-c", whole / "campaign.toml", *how)
        assert done.exit_code == 0, done.output
        return int(json.loads(done.output)["bytes_written"])

    saved = forecast() - forecast("--set", "stack.compression=lz4", "--set", "stack.series_bits=10")
    assert saved == pytest.approx(series_bytes(whole) - series_bytes(small), rel=0.15)


def test_other_programs_read_the_series_with_the_package_alone(small):
    """Without xcorr: a shard, and the virtual dataset over all of them."""
    program = (
        "import sys, h5py, hdf5plugin\n"
        "for path in sys.argv[1:]:\n"
        "    with h5py.File(path) as file: print(float(abs(file['series/ZZ'][...]).max()))\n"
    )
    paths = [small / "xcorr.h5", *sorted((small / "shards").glob("*.h5"))]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    whole, *parts = map(float, done.stdout.split())
    assert whole == max(parts) == np.abs(of_series(small)).max()


def test_stacks_are_those_of_the_rounded_series(small):
    with results.open(small) as found:
        one = found.get("XX.AAA", "XX.BBB", stack=None)
        weights = one["n_windows"].values.astype(float)
        mean = (one.values * weights[:, None]).sum(axis=0) / weights.sum()
        stack = found.get("XX.AAA", "XX.BBB")
        assert np.allclose(stack.values, mean, rtol=0, atol=1e-6 * np.abs(mean).max())
        assert np.abs(stack.values).max() > 0


@pytest.mark.parametrize("mapping", ["threads", "processes"])
def test_other_mappings_give_the_same_bits(archive, small, tmp_path, mapping):
    other = made(archive, tmp_path / "x.xcorr", {"mapping": mapping, "workers": 2}, compression="lz4", series_bits=10)
    assert list(differences(small, other)) == []


def test_the_compression_of_a_campaign_can_change_but_not_its_bits(archive, whole, tmp_path):
    folder = tmp_path / "x.xcorr"
    shutil.copytree(whole, folder)
    next((folder / "shards").glob("*.h5")).unlink()
    made(archive, folder, compression="lz4")
    assert list(differences(whole, folder)) == []
    assert list(problems(folder)) == []
    with pytest.raises(Exception, match="stack.series_bits"):
        made(archive, folder, compression="lz4", series_bits=10)


def test_compaction_and_packing_keep_compressed_series(small, tmp_path):
    folder = tmp_path / "x.xcorr"
    shutil.copytree(small, folder)
    before = of_series(folder)
    compact(folder)
    assert np.array_equal(of_series(folder), before)
    assert list(problems(folder)) == []
    pack(folder)
    shutil.rmtree(folder / "shards")
    assert np.array_equal(of_series(folder), before)


def test_damage_to_compressed_series_is_found_and_repaired(archive, small, tmp_path):
    folder = tmp_path / "x.xcorr"
    shutil.copytree(small, folder)
    shard = next((folder / "shards").glob("*.h5"))
    with h5py.File(shard) as file:
        at = file[series_path("", "ZZ")].id.get_chunk_info(0).byte_offset
    content = bytearray(shard.read_bytes())
    content[at + 40] ^= 1
    shard.write_bytes(content)
    assert any(shard.name in line and "damaged" in line for line in problems(folder))
    made(archive, folder, compression="lz4", series_bits=10)
    assert list(differences(small, folder)) == []


WITHOUT = "import sys; sys.modules['hdf5plugin'] = None; from xcorr.__main__ import main; main()"


def without_package(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_without_the_package_nothing_is_lost_and_the_cure_is_named(archive, small, tmp_path):
    folder = tmp_path / "x.xcorr"
    shutil.copytree(small, folder)
    before = sorted((p.name, p.read_bytes()) for p in (folder / "shards").iterdir())
    for command in (
        ("verify", folder),
        ("export", folder, "-o", tmp_path / "out", "--format", "sac", "--series"),
        ("stack", folder, "--set", 'stack.methods=["linear", "nroot"]'),
        ("pack", folder),
        ("compact", folder),
        ("run", archive / "stations.txt", "-o", folder, "--set", "stack.compression=lz4"),
    ):
        found = without_package(*command)
        assert found.returncode in (1, 2), command
        assert "xcorr[compression]" in found.stdout + found.stderr, command
        assert "Traceback" not in found.stderr, command
    assert sorted((p.name, p.read_bytes()) for p in (folder / "shards").iterdir()) == before
    assert list(problems(folder, quick=True)) == []


def test_a_new_campaign_is_refused_before_its_folder_is_made(archive, tmp_path):
    source = f"sds:{archive / 'sds'}"
    how = ("--source", source, "--set", "stack.compression=lz4")
    found = without_package("run", archive / "stations.txt", "-o", tmp_path / "x.xcorr", *how)
    assert found.returncode == 2
    assert "xcorr[compression]" in found.stderr
    assert not (tmp_path / "x.xcorr").exists()


def test_fewer_bits_without_compression_are_refused(archive):
    with pytest.raises(SettingsError, match="stack.series_bits"):
        settings(archive / "sds", stack={"series_bits": 10})

"""A bit is flipped or a file is cut, anywhere: verify names the harm or nothing differs, and a rerun mends it."""

import contextlib
import shutil

import numpy as np
import pytest
from archives import settings, station_list, write

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.core.errors import XcorrError
from xcorr.store.folder import frozen_settings
from xcorr.store.ledger_reader import LedgerError, LedgerReader
from xcorr.store.verify import problems

CODES = ("AAA", "BBB", "CCC")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for code in CODES:
        write(folder / "sds", code)
    how = settings(folder / "sds")
    run_campaign(station_list(folder, *CODES), folder / "x.xcorr", how)
    return folder, how


def content(folder):
    """What a campaign says: all datasets, accounts and settings."""
    with results.open(folder) as found:
        data = {}
        found.file.visititems(lambda n, d: data.setdefault(n, d[...].tobytes()) if hasattr(d, "shape") else None)
        data |= {f"@{n}": str(v) for n, v in found.file.attrs.items() if n != "created"}
    data["settings"] = frozen_settings(folder)
    with contextlib.closing(LedgerReader(folder)) as ledger:
        return data, list(ledger.accounts()), ledger.shards()


def harmed(path, rng):
    """Flip a bit or cut the file."""
    data = bytearray(path.read_bytes())
    if not data:
        return
    if rng.random() < 0.85:
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
    else:
        path.write_bytes(data[: int(rng.integers(len(data)))])


@pytest.mark.parametrize("rounds", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_harm_is_named_or_changes_nothing_and_a_rerun_mends_it(whole, tmp_path, rounds):
    origin, how = whole
    rng = np.random.default_rng(rounds)
    before = content(origin / "x.xcorr")
    files = sorted(p.relative_to(origin) for p in (origin / "x.xcorr").rglob("*") if p.is_file() and p.name != "lock")
    silent = []
    for number in range(rounds):
        folder = tmp_path / "x.xcorr"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(origin / "x.xcorr", folder)
        victim = files[int(rng.integers(len(files)))]
        harmed(tmp_path / victim, rng)
        told = named(folder)
        if not told:
            with contextlib.suppress(LedgerError):
                after = content(folder)
                if after[0] != before[0] or after[1] != before[1] or after[2] != before[2]:
                    silent.append((number, str(victim)))
        try:
            run_campaign(origin / "stations.txt", folder, how)
        except XcorrError:
            if victim.name == "campaign.toml":  # nobody else can say what the settings were: it must not go on
                continue
            raise
        after = content(folder)
        assert after[0] | {"@settings": ""} == before[0] | {"@settings": ""}, (number, str(victim))
        assert after[1] == before[1], (number, str(victim))
        assert named(folder) == [], (number, str(victim), told)
    assert silent == []


@pytest.mark.parametrize("word", [b"seal", b"metadata TEXT", b"INTEGER", b"00_00-00.h5", b"XX.AAA", b"members"])
def test_every_copy_of_a_word_in_the_ledger_is_guarded(whole, tmp_path, word):
    """SQLite keeps a key in a table and in an index, which its quick check does not compare."""
    origin, how = whole
    folder, before = tmp_path / "x.xcorr", content(origin / "x.xcorr")
    data = (origin / "x.xcorr" / "ledger.sqlite").read_bytes()
    places = [at for at in range(len(data)) if data.startswith(word, at)]
    assert places
    for at in places[:6]:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(origin / "x.xcorr", folder)
        (folder / "ledger.sqlite").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        if not named(folder):
            assert content(folder) == before, at
        run_campaign(origin / "stations.txt", folder, how)
        assert content(folder) == before, at
        assert named(folder) == [], at


def named(folder):
    try:
        return list(problems(folder))
    except XcorrError as error:
        return [str(error)]

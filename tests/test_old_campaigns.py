"""Campaigns that earlier versions made open, verify, and go on. Each folder in ``tests/campaigns`` was made by one."""

import shutil
from pathlib import Path

import fixture_campaign
import h5py
import numpy as np
import pytest

from xcorr import results
from xcorr.store.verify import problems

FOLDER = Path(__file__).parent / "campaigns"
VERSIONS = sorted(p.name for p in FOLDER.iterdir())


@pytest.fixture(params=VERSIONS)
def old(request, tmp_path):
    """A copy of a campaign, made by the version it is named after."""
    return Path(shutil.copytree(FOLDER / request.param, tmp_path / "campaign.xcorr"))


def old_version(folder):
    """The version that the settings of a campaign name, before the folder has one of its own."""
    first = (folder / "campaign.toml").read_text()
    return "0.1.0" if "# identity:" not in first else "folder-2"


def series(folder):
    """All series of a campaign by their place in the file, of all components and bands."""
    with h5py.File(folder / "xcorr.h5") as file:
        return {
            f"{group.name}/{name}": data[...]
            for group in (file["series"], file["bands/low/series"])
            for name, data in group.items()
        }


def test_fixtures_are_whole_and_small():
    assert {"0.1.0", "folder-2"} <= set(VERSIONS)
    for version in VERSIONS:
        files = [p for p in (FOLDER / version).rglob("*") if p.is_file()]
        assert {"campaign.toml", "ledger.sqlite", "report.json", "report.html", "xcorr.h5"} <= {p.name for p in files}
        assert sum(p.stat().st_size for p in files) < 500_000


def test_opens_and_verifies(old):
    assert list(problems(old)) == []
    with results.open(old) as found:
        assert len(found.pairs) == 3
        assert set(found.components) == {"ZZ", "RR", "TT"}
        assert found.stacks == ["linear", "pws"]
        stack = found.get("XX.A", "XX.B", "ZZ")
        assert float(stack.lag_s[int(np.abs(stack.to_numpy()).argmax())]) == -10.0  # B hears 10 s earlier what A hears
    assert len(series(old)) == 10
    assert {v.shape for v in series(old).values()} == {(4, 3, 121)}


def test_goes_on_with_another_day(old, tmp_path, invoke):
    before = series(old)
    listed, settings = fixture_campaign.write_inputs(tmp_path / "inputs")
    for day in (1, 2, 3):
        fixture_campaign.write_day(tmp_path / "archive", day)
    done = invoke("run", listed, "-c", settings, "--source", f"sds:{tmp_path / 'archive'}", "-o", old)
    assert done.exit_code == 0, done.output
    assert "3 shard(s), 2 of them kept" in done.output
    after = series(old)
    for key, known in before.items():
        assert after[key].shape == (6, 3, 121)
        assert (after[key][:4] == known).all()
    assert list(problems(old)) == []
    new = tmp_path / "new.xcorr"
    numbers = ["--set=whiten.taper_hz=0.01", "--set=whiten.smooth_hz=0.02"]  # the defaults of those versions
    again = ["run", listed, "-c", settings, "--source", f"sds:{tmp_path / 'archive'}", "-o", new, *numbers]
    assert invoke(*again).exit_code == 0
    for key, values in series(new).items():
        assert after[key] == pytest.approx(values, abs=1e-6)


def test_changes_of_code_are_told_without_the_hashes_of_modules(old, invoke):
    said = invoke("prov", "query", old, "--changed")
    assert said.exit_code == 0, said.output
    if old_version(old) == "0.1.0":
        assert "TransformStation: recorded by an earlier version of xcorr, with another code" in said.output
    assert invoke("prov", "query", old, "--made", "XX.A-XX.B").exit_code == 0
    assert invoke("status", old).exit_code == 0


def test_is_served_and_not_changed(old):
    from test_web_api import hashes
    from web_server import serving

    before = hashes(old)
    with serving(old) as server:
        for page in ("", "/pairs", "/pair/XX.A/XX.B", "/gather", "/availability", "/runs", "/runs/1", "/kept",
                     "/lineage?pair=XX.A-XX.B"):  # fmt: skip
            answer = server.ask(f"/c/campaign{page}")
            assert answer.status == 200, (page, answer.text)
        assert server.api("/pairs", "campaign").json()["total"] == 3
        found = server.api("/pairs/XX.A/XX.B", "campaign", components="TT", band="low").json()
        assert found["lag_convention"].startswith("C(tau) = sum")
        told = server.api("/lineage", "campaign", pair="XX.A-XX.B", components="RR").json()["sentences"]
        assert any("StackRows made stack:linear/main/RR/XX.A-XX.B" in line for line in told)
        assert server.api("/availability", "campaign", format="png").body.startswith(b"\x89PNG")
    assert hashes(old) == before

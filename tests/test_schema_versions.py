"""A new setting changes no campaign in which nobody uses it: versions with and without it share campaigns."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from xcorr.results.compare import differences
from xcorr.settings import Settings
from xcorr.settings.schema import FIRST
from xcorr.settings.toml import build

ADDED = "dead: float = option("
LATER = 'made_up: float = option(7.5, "A setting of a later version.", least=0)\n    '


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """The program with one more setting that decides results."""
    tree = tmp_path_factory.mktemp("later")
    for name in ("xcorr", "core", "pes", "mappings"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    sections = tree / "xcorr" / "settings" / "sections.py"
    text = sections.read_text()
    assert text.count(ADDED) == 1
    sections.write_text(text.replace(ADDED, LATER + ADDED))
    return tree


def program(folder, *args, tree=ROOT):
    where = ROOT / "configs" / "demo" / "stations.txt"
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "xcorr", "run", where, "-o", folder / "x.xcorr", *args]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def test_versions_share_campaigns_both_ways(later, demo, tmp_path):
    for first, second in ((ROOT, later), (later, ROOT)):
        folder = tmp_path / f"{first.name}"
        folder.mkdir()
        half = ("--end", "2024-03-01T02:00:00Z")
        assert program(folder, *half, tree=first).returncode == 0
        finished = program(folder, tree=second)
        assert finished.returncode == 0, finished.stderr
        assert "2 of them kept" in finished.stdout
        assert list(differences(folder / "x.xcorr", demo)) == []


def test_a_new_setting_that_is_used_makes_another_campaign_and_says_so(later, tmp_path):
    assert program(tmp_path, tree=later).returncode == 0
    other = program(tmp_path, "--set", "quality.made_up=3", tree=later)
    assert other.returncode == 1
    assert "quality.made_up: 'default' there, 3.0 now" in other.stderr
    (tmp_path / "other").mkdir()
    assert program(tmp_path / "other", "--set", "quality.made_up=3", tree=later).returncode == 0
    refused = program(tmp_path / "other")
    assert refused.returncode == 1
    assert "unknown setting quality.made_up" in refused.stderr


def test_an_identity_that_was_altered_is_mended_where_the_data_tell_it(tmp_path):
    assert program(tmp_path).returncode == 0
    path = tmp_path / "x.xcorr" / "campaign.toml"
    text = path.read_text()
    path.write_text(text.replace("# identity: ", "# identity: 0"))
    assert "campaign.toml: was lost or altered; written again" in program(tmp_path).stdout
    assert path.read_text() == text


def test_identities_of_version_0_1_0_stay_as_they_were():
    assert Settings().hash() == "2dbd28b3fa9c963015f7b1d81ab981b55251cc0030fc726d20f20c9a25d605f0"
    other = {"condition": {"rate_hz": 2.0, "band_hz": [0.1, 0.5]}, "bands": [{"name": "low", "band_hz": [0.1, 0.2]}]}
    other |= {"whiten": {"taper_hz": 0.01, "smooth_hz": 0.02}, "correlate": {"smooth_hz": 0.02}}  # were the defaults
    assert build(other).hash() == "b365f6078019badf7a0ebb54f014411d9e4d7b072add3c13948754576496f7f7"
    sections = {name: set(keys) for name, keys in FIRST.items()}
    assert len(sections["quality"]) == 10


def test_a_campaign_of_a_later_format_is_refused(tmp_path):
    assert program(tmp_path).returncode == 0
    path = tmp_path / "x.xcorr" / "campaign.toml"
    path.write_text(path.read_text().replace("# format: 2", "# format: 3"))
    before = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
    refused = program(tmp_path)
    assert refused.returncode == 1
    assert "is a campaign of format 3, and this version of xcorr knows formats 1 to 2" in refused.stderr
    assert {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()} == before

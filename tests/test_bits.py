"""The application on every mapping: every dataset of xcorr.h5 the same to the bit as on the sequential mapping."""

import itertools
import sys

import h5py
import pytest
from conftest import ROOT

from xcorr.campaign.run import run_campaign
from xcorr.results.compare import differences
from xcorr.settings.toml import build, load

sys.path.insert(0, str(ROOT / "benchmarks"))
import synthetic

SHORT = [("threads", 2), ("processes", 2), ("mpi", 3)]
EVERY = [(m, n) for m in ("threads", "processes", "mpi", "dask") for n in (1, 2, 3, 5)]
LONG = [pytest.param(m, n, marks=pytest.mark.slow) for m, n in EVERY if (m, n) not in SHORT]
COMBINATIONS = [*SHORT, *LONG]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """Run a case on a mapping, each sequential reference once; return the campaign folder."""
    known = {}

    def run(case, where, plain, block, mapping="sequential", workers=1):
        key = case, block, mapping, workers
        if key not in known:
            folder = tmp_path_factory.mktemp(case) / "out.xcorr"
            settings = build(
                {
                    **plain,
                    "correlate": {**plain.get("correlate", {}), "block": block},
                    "run": {"mapping": mapping, "workers": workers},
                }
            )
            assert run_campaign(where, folder, settings).exit_code == 0
            known[key] = folder
        return known[key]

    return run


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return synthetic.write_network(tmp_path_factory.mktemp("network"), 150)


def differing(campaign, case, where, plain, block, mapping, workers):
    reference = campaign(case, where, plain, block)
    other = campaign(case, where, plain, block, mapping, workers)
    return list(differences(reference, other))


@pytest.mark.parametrize("block", [8, 64])
@pytest.mark.parametrize(("mapping", "workers"), COMBINATIONS)
def test_demo(campaign, mapping, workers, block):
    configs = ROOT / "configs" / "demo"
    assert (
        differing(campaign, "demo", configs / "stations.txt", load(configs / "xcorr.toml"), block, mapping, workers)
        == []
    )


@pytest.mark.parametrize("block", [8, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("mapping", "workers"), COMBINATIONS)
def test_kansas_nine_components(real_data, tmp_path, campaign, mapping, workers, block):
    where = tmp_path / "stations.txt"
    where.write_text("KS A7K2\nKS B4Q8\nKS C9M3\nKS D2X6\n")
    plain = {
        "data": {"source": f"files:{real_data}/kansas-3c-1hz", "start": "2022-05-17", "end": "2022-05-24"},
        "condition": {"rate_hz": 1, "band_hz": [0.05, 0.4]},
        "correlate": {"components": "all"},
    }
    assert differing(campaign, "kansas", where, plain, block, mapping, workers) == []


ESTIMATES = {
    "coherency": {"correlate": {"method": "coherency"}, "whiten": {"method": "none"}},
    "phase": {"correlate": {"method": "phase"}, "whiten": {"method": "none"}, "normalize": {"method": "none"}},
    "everything": {
        "correlate": {"autocorrelations": True, "amplitude": "energy", "distance_km": [0, 40]},
        "bands": [{"name": "low", "band_hz": [0.1, 0.3]}],
        "stack": {"methods": ["linear", "pws", "robust", "acf"], "substack_s": 3600},
    },
}


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize(("mapping", "workers"), [("threads", 3), ("processes", 2)])
def test_estimates(campaign, estimate, mapping, workers):
    configs = ROOT / "configs" / "demo"
    plain = load(configs / "xcorr.toml")
    for section, keys in ESTIMATES[estimate].items():
        plain[section] = keys if section == "bands" else {**plain.get(section, {}), **keys}
    assert differing(campaign, estimate, configs / "stations.txt", plain, 8, mapping, workers) == []


@pytest.mark.slow
@pytest.mark.parametrize("block", [8, 64])
@pytest.mark.parametrize(("mapping", "workers"), EVERY)
def test_150_stations(network, campaign, mapping, workers, block):
    plain = {"data": {"source": f"sds:{network.parent}/sds", "end": "2024-03-02"}}
    assert differing(campaign, "synthetic", network, plain, block, mapping, workers) == []


def test_a_difference_is_found_and_placed(demo, tmp_path, invoke):
    changed = tmp_path / "changed.h5"
    changed.write_bytes((demo / "xcorr.h5").read_bytes())
    (tmp_path / "shards").symlink_to(demo / "shards")
    assert invoke("compare", demo, changed).exit_code == 0
    with h5py.File(changed, "r+") as file:
        file["stacks/linear/ZZ/mean"][3, 7] += 1e-6
        del file["slots"]
    result = invoke("compare", demo, changed)
    assert result.exit_code == 1
    assert "stacks/linear/ZZ/mean: 1 of 43771 values differ, first at (3, 7)" in result.output
    assert f"slots: only in {demo}" in result.output
    assert list(itertools.islice(differences(demo, demo), 1)) == []

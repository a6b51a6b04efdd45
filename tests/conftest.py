"""Fixtures shared by the tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background begins with it ignored


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("XCORR_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "kansas-3c-1hz").is_dir():
        pytest.skip("real recordings are not here: set XCORR_REAL_DATA to their folder")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(12345)


@pytest.fixture
def invoke():
    """Call the command line; returns click's result with exit_code and output."""
    from xcorr.cli.program import main

    def call(*arguments: object):
        return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)

    return call


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """The campaign folder of the demo, run once."""
    from xcorr.campaign.run import run_campaign
    from xcorr.settings.toml import build, load

    folder = tmp_path_factory.mktemp("demo") / "demo.xcorr"
    configs = ROOT / "configs" / "demo"
    finished = run_campaign(configs / "stations.txt", folder, build(load(configs / "xcorr.toml")))
    assert finished.exit_code == 0
    return folder


@pytest.fixture(scope="session")
def kept(tmp_path_factory) -> Path:
    """A demo with kept items, all recorded."""
    from xcorr.campaign.run import run_campaign
    from xcorr.settings.toml import build, load

    folder = tmp_path_factory.mktemp("kept") / "kept.xcorr"
    plain = load(ROOT / "configs" / "demo" / "xcorr.toml")
    plain["keep"] = [{"element": "ConditionStation", "condition": "station == 'XX.D05'"}]
    plain["provenance"] = {"level": "item"}
    assert run_campaign(ROOT / "configs" / "demo" / "stations.txt", folder, build(plain)).exit_code == 0
    return folder


@pytest.fixture(scope="module")
def server(demo, kept):
    """A real server of the demo, without and with kept items."""
    from web_server import serving

    with serving(demo, kept) as found:
        yield found


def accounts_of(folder: Path) -> list[dict[str, Any]]:
    """Every account of a campaign, with the name of its slot and the number of its chunk."""
    from xcorr.store.accounts import account_rows

    rows = list(account_rows(folder))
    starts = sorted({r["start_ns"] for r in rows})
    return [{**r, "chunk": starts.index(r["start_ns"])} for r in rows]


@pytest.fixture(scope="session")
def weeks(tmp_path_factory):
    """Ten stations and twelve days at 1 Hz, and the campaign made of them without interruption."""
    from archives import START, trace, weekly

    from xcorr.campaign.run import run_campaign

    root = tmp_path_factory.mktemp("weeks")
    codes = [f"S{k:02d}" for k in range(10)]
    for k, code in enumerate(codes):
        for day in range(12):
            folder = root / "sds" / "2024" / "XX" / code / "BHZ.D"
            folder.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([k, day]).standard_normal(86_400).astype(np.float32)
            one = trace(code, noise, 1.0, start=START + day * 86_400)
            one.write(str(folder / f"XX.{code}..BHZ.D.2024.{61 + day:03d}"), format="MSEED")
    (root / "stations.txt").write_text("".join(f"XX {c}\n" for c in codes))
    run_campaign(root / "stations.txt", root / "whole.xcorr", weekly(root))
    return root

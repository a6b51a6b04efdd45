"""Settings: defaults, files, overrides, errors that name key, value and cure."""

import dataclasses
import tomllib

import pytest

from xcorr.core import installed
from xcorr.network.chunks import parse_time
from xcorr.settings import Settings, SettingsError
from xcorr.settings.toml import KINDS, build, load, override
from xcorr.settings.written import to_toml


def test_defaults_are_valid_and_documented():
    settings = Settings()
    assert settings.edge_s == 40.0
    assert settings.normalize_window_s == 10.0
    assert settings.whiten_band_hz == (0.05, 1.0)
    others = [installed.load(kind, name).Options for kind in ("sources", "mappings") for name in installed.names(kind)]
    for kind in [*KINDS.values(), *others]:
        for field in dataclasses.fields(kind):
            assert "tables" in field.metadata or len(field.metadata["doc"]) > 10


def test_settings_of_version_0_1_0_have_new_names():
    old = build({"data": {"fdsn_retries": 1, "fdsn_requests_per_s": 2}, "run": {"storm_nimbus": "a:1"}})
    new = build({"data": {"fdsn": {"retries": 1, "requests_per_s": 2.0}}, "run": {"storm.nimbus": "a:1"}})
    assert old == new
    assert old.data.options == {"fdsn": {"retries": 1, "requests_per_s": 2.0}}
    assert old.hash() == Settings().hash(), "how a service is asked changes no result"
    assert build(tomllib.loads(to_toml(old.as_dict()))) == old


def test_round_trip_through_toml():
    settings = build(
        {"condition": {"rate_hz": 2, "band_hz": [0.1, 0.5], "edge_s": 30}, "correlate": {"components": "all"}}
    )
    assert build(tomllib.loads(to_toml(settings.as_dict()))) == settings


def test_the_commented_file_says_nothing_but_defaults():
    text = to_toml(Settings().as_dict(), comment=True)
    assert build(tomllib.loads(text)) == Settings()
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line and not line.endswith(".") else line
        for line in text.partition("# Further bands")[0].splitlines()
    )
    assert build(tomllib.loads(uncommented)) == Settings()


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"condition": {"rate_h": 4}}, r"unknown setting condition.rate_h \(did you mean 'condition.rate_hz'\?\)"),
        ({"window": {"rate_hz": 4}}, r"unknown setting window.rate_hz \(did you mean 'condition.rate_hz'\?\)"),
        ({"conditon": {}}, r"unknown section \[conditon\] \(did you mean 'condition'\?\)"),
        ({"condition": 3}, "is a section"),
        ({"condition": {"rate_hz": "fast"}}, "condition.rate_hz = 'fast': must be a number"),
        ({"condition": {"rate_hz": True}}, "must be a number"),
        ({"condition": {"rate_hz": float("nan")}}, "must be a number"),
        ({"condition": {"band_hz": [0.1]}}, "must be a list of 2 numbers"),
        ({"condition": {"band_hz": [0.5, 0.1]}}, "needs 0 < f1 < f2 < 2 Hz"),
        ({"condition": {"band_hz": [0.1, 2.0]}}, "needs 0 < f1 < f2 < 2 Hz"),
        ({"condition": {"edge_s": "long"}}, 'must be "auto" or a number'),
        ({"condition": {"response": "velocity"}}, "needs the responses: set data.metadata"),
        ({"normalize": {"method": "onebit"}}, "must be one of none, one-bit.*did you mean 'one-bit'"),
        ({"window": {"length_s": 0.3}}, "must be at least 1"),
        ({"window": {"length_s": 10.1}}, "whole number of samples at 4 Hz"),
        ({"window": {"length_s": 100_000}}, "longer than a chunk"),
        ({"window": {"min_coverage": 1.5}}, "is a share"),
        ({"correlate": {"max_lag_s": 3600}}, "below window.length_s"),
        ({"correlate": {"block": 12}}, "must be a multiple of 8"),
        ({"correlate": {"block": 0}}, "must be at least 8"),
        ({"correlate": {"components": ["ZX"]}}, "must list different pairs"),
        ({"correlate": {"components": ["ZZ", "ZZ"]}}, "must list different pairs"),
        ({"run": {"workers": 0}}, "must be at least 1"),
    ],
)
def test_wrong_settings_are_explained(plain, message):
    with pytest.raises(SettingsError, match=message):
        build(plain)


def test_overrides_win_and_are_toml():
    plain = override(
        {"condition": {"rate_hz": 4.0}}, ["condition.rate_hz=1", "condition.band_hz=[0.05,0.4]", "whiten.method=none"]
    )
    settings = build(plain)
    assert settings.condition.rate_hz == 1.0
    assert settings.condition.band_hz == (0.05, 0.4)
    assert settings.whiten.method == "none"
    for bad in ("condition.rate_hz", "rate_hz=1", "condition.=1"):
        with pytest.raises(SettingsError, match="write section.key=value"):
            override({}, [bad])


def test_paths_in_a_file_are_relative_to_it(tmp_path):
    (tmp_path / "x.toml").write_text('[data]\nsource = "sds:archive"\nmetadata = "meta/*.xml"\nstart = 2024-03-01\n')
    data = load(tmp_path / "x.toml")["data"]
    assert data["source"] == f"sds:{tmp_path}/archive"
    assert data["metadata"] == f"{tmp_path}/meta/*.xml"
    assert build({"data": data}).data.start == "2024-03-01"
    (tmp_path / "y.toml").write_text("[data\n")
    with pytest.raises(SettingsError, match=r"y\.toml: not TOML"):
        load(tmp_path / "y.toml")
    (tmp_path / "z.toml").write_text("[data]\nsorce = 1\n")
    with pytest.raises(SettingsError, match=r"z\.toml: unknown setting data.sorce"):
        load(tmp_path / "z.toml")


def test_identity_leaves_out_where_and_how():
    one = build({"data": {"source": "sds:a", "end": "2024-01-02"}, "run": {"workers": 2}})
    two = build({"data": {"source": "sds:b"}})
    assert one.hash() == two.hash()
    assert one.hash() != build({"correlate": {"block": 8}}).hash()


def test_times():
    assert parse_time("1970-01-02", "x") == 86_400 * 10**9
    assert parse_time("1970-01-01T01:00:00.000001+01:00", "x") == 1000
    with pytest.raises(SettingsError, match="data.start = 'soon': must be a time"):
        parse_time("soon", "data.start")


@pytest.mark.parametrize(
    ("response", "unit"),
    [("none", "counts^2"), ("velocity", "(m/s)^2"), ("displacement", "m^2"), ("acceleration", "m^2/s^4")],
)
def test_units_of_correlations(response, unit):
    plain = {"data": {"metadata": "x.xml"}, "condition": {"response": response}}
    plain |= {"normalize": {"method": "none"}, "whiten": {"method": "none"}}
    assert build(plain).units == unit
    assert build(plain | {"normalize": {"method": "one-bit"}}).units == "1"
    assert build(plain | {"whiten": {"method": "running-mean"}}).units == "1"
    assert build(plain | {"correlate": {"method": "phase"}}).units == "1"
    assert build(plain | {"correlate": {"amplitude": "energy"}}).units == "1"

"""Station lists of every form, and what is wrong with others."""

import math

import pytest
from conftest import ROOT

from xcorr.network.station_list import StationListError, read_station_list


def read(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text)
    return read_station_list(path)


def test_every_line_is_a_row(tmp_path):
    rows = read(tmp_path, "# comment\nCI WBM\n\nBK.RUSS  # inline\nBK.YUBA.00.LHZ\nXX.*\nKS.A7K2.--.LH?\n")
    assert [(r.line, r.network, r.station, r.location, r.channel) for r in rows] == [
        (2, "CI", "WBM", None, None),
        (4, "BK", "RUSS", None, None),
        (5, "BK", "YUBA", "00", "LHZ"),
        (6, "XX", "*", None, None),
        (7, "KS", "A7K2", "", "LH?"),
    ]


def test_836_lines_are_836_rows(tmp_path):
    rows = read(tmp_path, "".join(f"XX S{i:03d}\n" for i in range(836)))
    assert [r.station for r in rows] == [f"S{i:03d}" for i in range(836)]


def test_csv_with_coordinates(tmp_path):
    rows = read(tmp_path, "network,station,latitude,longitude,elevation_m\nXX,A,46.5,8.25,510\nXX,B,46.6,8.3,\n")
    assert rows[0].place.at.latitude == 46.5
    assert rows[0].place.at.elevation_m == 510
    assert math.isnan(rows[1].place.at.elevation_m)
    rows = read(tmp_path, "network,station,location,channel,latitude,longitude\nXX,A,00,HHZ,1,2\n")
    assert (rows[0].location, rows[0].channel) == ("00", "HHZ")


def test_fdsn_station_text(tmp_path):
    text = (
        "#Network | Station | Latitude | Longitude | Elevation | SiteName | StartTime | EndTime\n"
        "IU|ANMO|34.9459|-106.4572|1850.0|Albuquerque|1989-08-29T00:00:00|\n"
    )
    (row,) = read(tmp_path, text)
    assert (row.network, row.station) == ("IU", "ANMO")
    assert (row.place.at.longitude, row.place.at.elevation_m) == (-106.4572, 1850.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no station"),
        ("# only comments\n", "holds no station"),
        ("CI WBM\nCI WBM LHZ\n", r"list\.txt, line 2: 'CI WBM LHZ': write 'NET STA'"),
        ("CI.WBM.\n", "line 1"),
        ("CI W/M\n", r"'W/M' is not a code"),
        ("network,station,latitude,longitude\nXX,A,north,8\n", "line 2.*latitude 'north' is not a number"),
        ("network,station,latitude,longitude\nXX,A,95,8\n", "latitude '95' is out of range"),
        ("network,station,latitude,longitude\nXX,A,5\n", "3 columns where the header has 4"),
        ("network,station,latitud,lon\nXX,A,1,2\n", "column 'latitud' is not known.*did you mean 'latitude'"),
    ],
)
def test_what_cannot_be_understood_is_named(tmp_path, text, message):
    with pytest.raises(StationListError, match=message):
        read(tmp_path, text)


def test_binary_list(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\x89\xff\x00\x01")
    with pytest.raises(StationListError, match="not a text file"):
        read_station_list(tmp_path / "list.txt")


def test_the_lists_that_are_shipped_can_be_read():
    lists = sorted((ROOT / "configs" / "stations").glob("*.csv"))
    rows = [r for path in lists for r in read_station_list(path)]
    assert len({r.network for r in rows}) >= 4
    assert len(rows) > 100
    assert all(r.place is not None for r in rows)
    assert len({(r.network, r.station) for r in rows}) == len(rows)


@pytest.mark.parametrize("name", ["verce", "monitoring", "tomography", "demo/xcorr"])
def test_the_settings_that_are_shipped_are_valid(name):
    from xcorr.settings.toml import build, load

    assert build(load(ROOT / "configs" / f"{name}.toml")).condition.rate_hz > 0


def test_836_lines_in_836_rows_accounted_for(tmp_path):
    """As many lines as the list of the VERCE campaign had, of which its first workflow dropped every tenth."""
    import archives

    from xcorr.campaign.run import run_campaign

    present = {f"S{k:03d}" for k in range(0, 836, 97)}
    for code in sorted(present):
        archives.write(tmp_path / "sds", code)
    lines = [f"XX S{k:03d}" for k in range(836)]
    lines[500:520] = lines[0:20]  # asked for again
    lines[600] = "XX.S700.*.BHZ  # as a pattern"
    (tmp_path / "list.txt").write_text("\n".join(["# a comment", "", *lines]) + "\n")
    finished = run_campaign(tmp_path / "list.txt", tmp_path / "x.xcorr", archives.settings(tmp_path / "sds"))
    rows = finished.report["requested"]
    assert len(rows) == 836
    assert [r["line"] for r in rows] == list(range(3, 839))
    for row, line in zip(rows, lines, strict=True):
        code = line.split("#")[0].replace(".", " ").split()[1]
        first = next(k for k, text in enumerate(lines) if code in text) == row["line"] - 3
        expected = "absent" if code not in present else "used" if first else "repeated"
        assert row["status"] == expected, row
        assert bool(row["reason"]) == (expected != "used")
    assert finished.report["stations_used"] == len(present)

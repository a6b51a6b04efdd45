"""ASDF files as a source: written by pyasdf, read as the same waveforms in other files are."""

import shutil

import h5py
import numpy as np
import pytest
from archives import START, settings, station_list, trace, waveform, write
from obspy.core.inventory import Inventory, Network, Station

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.pes.reading import waveform_file as module
from xcorr.pes.reading.formats import UnknownFormat
from xcorr.pes.reading.source import Wanted, open_source

pyasdf = pytest.importorskip("pyasdf")
CODES = ("AAA", "BBB", "CCC")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three stations in an SDS archive, and in an ASDF file in pieces, with coordinates."""
    folder = tmp_path_factory.mktemp("asdf")
    with pyasdf.ASDFDataSet(str(folder / "noise.h5"), mpi=False) as of:
        for k, code in enumerate(CODES):
            data = waveform(k)
            write(folder / "sds", code, data)
            for first in range(0, len(data), 30_000):
                part = trace(code, data[first : first + 30_000], start=START + first / 10)
                of.add_waveforms(part, tag="raw_recording")
            station = Station(code, 40 + 0.1 * k, -100.0, 300.0 + k)
            of.add_stationxml(Inventory([Network("XX", [station])], source="test"))
    station_list(folder, *CODES)
    return folder


def test_the_same_as_in_other_files(folder, tmp_path):
    for name, source in (("sds", f"sds:{folder / 'sds'}"), ("asdf", f"files:{folder / 'noise.h5'}")):
        how = settings(folder / "sds", data={"source": source})
        assert run_campaign(folder / "stations.txt", tmp_path / f"{name}.xcorr", how).exit_code == 0
    with results.open(tmp_path / "sds.xcorr") as a, results.open(tmp_path / "asdf.xcorr") as b:
        assert a.gather().tobytes() == b.gather().tobytes()
        assert b.stations["latitude"].tolist() == pytest.approx([40.0, 40.1, 40.2])
        assert b.stations["elevation_m"].tolist() == pytest.approx([300.0, 301.0, 302.0])
        assert np.isfinite(b.pairs["distance_m"]).all()


def test_headers_and_parts(folder):
    path = str(folder / "noise.h5")
    index = open_source(f"files:{path}").index(Wanted((("XX", "*"),)))
    assert {key: len(found) for key, found in index.coverages.items()} == {("XX", c): 3 for c in CODES}
    start = START.ns + 10**9 * 3100
    found = module.read_waveforms(path, start, start + 10**10, {("XX", "BBB")}).waveforms
    (one,) = found
    assert one.seed_id == "XX.BBB..BHZ"
    assert one.rate_hz == 10.0
    assert 100 <= one.samples <= 105, "only what is wanted is read"
    first = round((one.start_ns - START.ns) / 1e8)
    assert one.data.tolist() == waveform(1)[first : first + one.samples].tolist()
    assert isinstance(one.data, np.ndarray)


def test_other_hdf5_files_are_told(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = np.zeros(3)
    with pytest.raises(UnknownFormat, match="HDF5, but not ASDF"):
        module.read_headers(str(tmp_path / "x.h5"))
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.attrs["file_format"] = np.bytes_(b"ASDF")
        file.create_group("Waveforms/XX.A").create_dataset("XX.A..BHZ__x__y__tag", data=np.zeros(3))
        file["Waveforms/XX.A/StationXML"] = np.frombuffer(b"garbage", np.uint8)
    assert module.read_headers(str(tmp_path / "y.h5")) == [], "a piece without its rate is none"
    content = (tmp_path / "y.h5").read_bytes()
    (tmp_path / "z.h5").write_bytes(content[:600])
    with pytest.raises(OSError, match="truncated|bad"):
        module.read_headers(str(tmp_path / "z.h5"))


def test_a_damaged_file_costs_itself(folder, tmp_path):
    shutil.copytree(folder / "sds", tmp_path / "in")
    (tmp_path / "in" / "bad.h5").write_bytes((folder / "noise.h5").read_bytes()[:3000])
    index = open_source(f"files:{tmp_path / 'in'}").index(Wanted((("XX", "*"),)))
    assert set(index.coverages) == {("XX", c) for c in CODES}
    assert [p.rpartition("/")[2] for p in index.unreadable] == ["bad.h5"]

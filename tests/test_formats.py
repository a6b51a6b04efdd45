"""Files are read in listed formats alone: a pickle in an archive runs no code, in whatever it is packed."""

import bz2
import gzip
import pickle
import tarfile
import warnings
import zipfile

import obspy
import pytest
from archives import SETTINGS, sds_path, station_list, trace, waveform, write

from xcorr.pes.reading.formats import FORMATS, UnknownFormat, read
from xcorr.pes.reading.waveform_file import read_headers, read_waveforms


class Poison:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def poisoned(touched):
    """A pickle that ObsPy takes for its own: its mark is in the first bytes."""
    return pickle.dumps(("obspy.core.stream", Poison(touched)), 0)


def packed(folder, name, content):
    """The content plain and in every packing that is unpacked."""
    plain = folder / name
    plain.write_bytes(content)
    (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    (folder / f"{name}.bz2").write_bytes(bz2.compress(content))
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as file:
        file.write(plain, name)
    with tarfile.open(folder / f"{name}.tar", "w") as file:
        file.add(plain, name)
    return [plain, *(folder / f"{name}.{kind}" for kind in ("gz", "bz2", "zip", "tar"))]


def test_the_poison_works_on_obspy(tmp_path):
    (tmp_path / "x").write_bytes(poisoned(tmp_path / "touched"))
    with pytest.raises(AttributeError):
        obspy.read(str(tmp_path / "x"))
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_pickles_are_refused_in_every_packing(tmp_path, kind):
    for path in packed(tmp_path, "x", poisoned(tmp_path / "touched")):
        with pytest.raises(UnknownFormat, match="a Python pickle, which could run code"):
            read(kind, str(path))
    assert not (tmp_path / "touched").exists()


def test_everything_else_that_obspy_knows_is_read(tmp_path):
    from obspy.core.util.base import ENTRY_POINTS

    assert set(ENTRY_POINTS["waveform"]) - FORMATS["waveform"] == {"PICKLE"}
    assert set(ENTRY_POINTS["inventory"]) - FORMATS["inventory"] == {"SC3ML"}  # SCML by its old name
    for number, name in enumerate(("MSEED", "SAC", "GSE2", "SLIST", "WAV", "SEGY")):
        data = waveform(number, seconds=60, rate=100.0)
        made = trace("AAA", data.astype("f4" if name in ("SAC", "SEGY") else "i4"), rate=100.0)
        made.data = made.data % 1000 if name == "WAV" else made.data
        path = tmp_path / f"x{number}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SEG Y makes headers
            made.write(str(path), format=name)
        for place in packed(tmp_path, path.name, path.read_bytes()):
            (found,) = read("waveform", str(place))
            (known,) = obspy.read(str(place))
            assert (found.data == known.data).all()
            assert found.stats.starttime == known.stats.starttime


def test_traces_are_cut_as_obspy_cuts_them_but_for_a_sample(tmp_path):
    path = str(tmp_path / "x.sac")
    trace("AAA", waveform(1).astype("f4")).write(path, format="SAC")
    start, end = obspy.UTCDateTime(2024, 3, 1, 0, 10, 0, 30_000), obspy.UTCDateTime(2024, 3, 1, 0, 20)
    (found,), wrong, notes = read_waveforms(path, start.ns, end.ns)
    (known,) = obspy.read(path, starttime=start, endtime=end)
    assert (wrong, notes) == ([], [])
    assert found.start_ns == known.stats.starttime.ns - round(known.stats.delta * 1e9)  # a sample more at both ends
    assert (found.data[1:-1] == known.data).all()
    assert read_waveforms(path, end.ns + 10**13, end.ns + 2 * 10**13) == ([], [], [])
    (header,) = read_headers(path)
    assert header.samples == 72_000


@pytest.mark.parametrize("command", ["run", "plan", "doctor"])
@pytest.mark.parametrize("source", ["sds", "files", "metadata", "catalogue"])
def test_no_command_runs_a_pickle(tmp_path, invoke, command, source):
    root, touched = tmp_path / "archive", tmp_path / "touched"
    for code in ("AAA", "BBB"):
        write(root, code)
    poison = poisoned(touched)
    options = []
    if source in ("sds", "files"):
        sds_path(root, "CCC").write_bytes(poison)
        (root / "CCC.gz").write_bytes(gzip.compress(poison))
    else:
        (tmp_path / "about.xml").write_bytes(poison)
        key = "data.metadata" if source == "metadata" else "quality.catalogue"
        options = ["--set", f"{key}='{tmp_path / 'about.xml'}'"]
    for section, keys in SETTINGS.items():
        options += [f"--set={section}.{k}={v!r}".replace("(", "[").replace(")", "]") for k, v in keys.items()]
    listed = station_list(tmp_path, "AAA", "BBB", "CCC")
    kind = "files" if source == "files" else "sds"
    done = invoke(command, listed, "--source", f"{kind}:{root}", *options)
    assert not touched.exists()
    if command == "run" and source in ("sds", "files"):
        assert done.exit_code == 3, done.output
        assert "pickle" in done.output

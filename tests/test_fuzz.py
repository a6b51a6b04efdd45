"""Mutated inputs: never a hang, never a crash without a message, and the other stations' results to the bit."""

import random
import re
import signal
import warnings

import numpy as np
import obspy
import pytest
from archives import settings, trace, waveform
from obspy.core.inventory import Channel, Inventory, Network, Station

from xcorr import results
from xcorr.campaign.run import run_campaign
from xcorr.core import XcorrError
from xcorr.network.station_list import read_station_list
from xcorr.settings import Settings
from xcorr.settings.toml import build, load
from xcorr.settings.written import to_toml

LIMIT_S = 20
VALUES = (b"", b"91", b"-1e300", b"nan", b"inf", b"0", b"40.0 ", b"x", b"2000-01-01T00:00:00", b"\xff")


@pytest.fixture(autouse=True)
def no_hang():
    def too_long(*_):
        pytest.fail(f"took longer than {LIMIT_S} s")  # no Exception, which elements may skip

    previous = signal.signal(signal.SIGALRM, too_long)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def mutated(data, rng):
    """Flip, set, cut, repeat or move some bytes."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if not data:
            break
        at = rng.randrange(len(data))
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            data[at : at + rng.choice((1, 4, 64))] = rng.randbytes(rng.choice((0, 1, 4, 64)))
        elif kind == 3 and len(data) > 100:
            del data[rng.randrange(50, len(data)) :]
        elif kind == 4:
            data[at:at] = data[rng.randrange(len(data)) :][:512]
        else:
            head = rng.randrange(min(64, len(data)))  # headers matter most
            data[head] = rng.choice((0, 1, 0x20, 0x2D, 0x7F, 0xFF))
    return bytes(data)


def text_mutated(text, rng):
    lines = text.splitlines(keepends=True)
    for _ in range(rng.choice((1, 2, 4))):
        k = rng.randrange(len(lines))
        kind = rng.randrange(5)
        if kind == 0:
            lines[k] = mutated(lines[k].encode() or b"\n", rng).decode("utf-8", "replace")
        elif kind == 1:
            lines.insert(k, lines[rng.randrange(len(lines))])
        elif kind == 2:
            words = lines[k].split()
            rng.shuffle(words)
            lines[k] = " ".join(words) + "\n"
        elif kind == 3:
            lines[k] = lines[k].replace(
                rng.choice('=.,[]"0123456789'), rng.choice(["", "-", "1e999", "nan", "[", '"', "x"])
            )
        elif len(lines) > 1:
            del lines[k]
    return "".join(lines)


def explained(call):
    """Return what a call gives, or None where it raised one of our errors, which must say something."""
    result, said = None, None
    try:
        result = call()
    except XcorrError as error:
        said = str(error)
    assert said is None or len(said) > 10
    return result


@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_settings(tmp_path, count):
    rng, text = random.Random(1), to_toml(Settings().as_dict(), comment=True).replace("# ", "")
    plain = to_toml(Settings().as_dict())
    path, good = tmp_path / "x.toml", 0
    for _ in range(count):
        signal.alarm(LIMIT_S)
        path.write_text(text_mutated(rng.choice((text, plain)), rng))
        good += explained(lambda: build(load(path))) is not None
    assert good > 0, "some mutations are harmless"


@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_station_lists(tmp_path, count):
    texts = (
        "# list\nXX AAA\nXX BBB\nYY.CCC.00.BH?\nZZ.D*\n",
        "network,station,latitude,longitude,elevation_m\nXX,AAA,40.1,5.2,100\nXX,BBB,-40.1,175.2,\n",
        "#Network|Station|Latitude|Longitude|Elevation|SiteName\nXX|AAA|40.1|5.2|100.0|A place\nXX|BBB|40|5|1|B\n",
    )
    rng, path, good = random.Random(2), tmp_path / "x.txt", 0
    for _ in range(count):
        signal.alarm(LIMIT_S)
        path.write_bytes(text_mutated(rng.choice(texts), rng).encode("utf-8", "surrogateescape"))
        good += explained(lambda: read_station_list(path)) is not None
    assert good > 0


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Three stations; the files of the third are mutated. Returns folder, settings and the results of the first two."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "data").mkdir()
    for k, code in enumerate(("AAA", "BBB")):
        trace(code, waveform(k, 1800)).write(str(folder / "data" / f"{code}.mseed"), format="MSEED")
    (folder / "stations.txt").write_text("XX AAA\nXX BBB\nXX CCC\n")
    made = settings(
        "x", data={"source": f"files:{folder}/data", "end": "2024-03-01T01:00:00"}, correlate={"max_lag_s": 10.0}
    )
    run_campaign(folder / "stations.txt", folder / "clean.xcorr", made)
    with results.open(folder / "clean.xcorr") as found:
        return folder, made, found.get("XX.AAA", "XX.BBB").values.tobytes()


def check_others(clean, tmp_path, made=None):
    folder, plain, expected = clean
    signal.alarm(LIMIT_S)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the oracle is about results, not about what libraries mutter
        finished = explained(lambda: run_campaign(folder / "stations.txt", tmp_path / "x.xcorr", made or plain))
    if made is not None and finished is None:
        return False
    assert finished is not None
    assert finished.exit_code in (0, 3)
    with results.open(tmp_path / "x.xcorr") as found:
        assert found.get("XX.AAA", "XX.BBB").values.tobytes() == expected
    if "XX.CCC" in {s for r in finished.report["requested"] for s in r["stations"] if r["status"] == "used"}:
        with results.open(tmp_path / "x.xcorr") as found:
            for pair in (("XX.AAA", "XX.CCC"), ("XX.BBB", "XX.CCC")):
                values = found.get(*pair).values
                assert np.isfinite(values).all() or np.isnan(values).all()
    return True


# ObsPy's callback for libmseed's messages trips over bytes that are not UTF-8
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["MSEED", "SAC"])
@pytest.mark.parametrize("count", [12, pytest.param(600, marks=pytest.mark.slow)])
def test_waveforms(clean, tmp_path, kind, count):
    rng = random.Random(f"{kind}{count}")
    one = trace("CCC", waveform(7, 1800).astype(np.float32 if kind == "SAC" else np.int32))
    path = clean[0] / "data" / f"CCC.{kind.lower()}"
    one.write(str(path), format=kind)
    whole = path.read_bytes()
    try:
        for k in range(count):
            path.write_bytes(mutated(whole, rng))
            (tmp_path / str(k)).mkdir()
            check_others(clean, tmp_path / str(k))
    finally:
        path.unlink()


@pytest.mark.parametrize("count", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_station_metadata(clean, tmp_path, count):
    import dataclasses

    rng, stations = random.Random(5), []
    for code in ("AAA", "BBB", "CCC"):
        channel = Channel("BHZ", "", 40.0, 5.0, elevation=0, depth=0, azimuth=0, dip=-90, sample_rate=10)
        stations.append(Station(code, 40.0, 5.0, 0, channels=[channel], creation_date=obspy.UTCDateTime(2000)))
    path = tmp_path / "stations.xml"
    Inventory([Network("XX", stations=stations)]).write(str(path), format="STATIONXML")
    whole = path.read_bytes()
    third = whole.index(b'code="CCC"')
    values = [m.span() for m in re.finditer(rb"(?<=>)[^<>\n]+(?=<)", whole) if m.start() > third]
    waveforms = clean[0] / "data" / "CCC.mseed"
    trace("CCC", waveform(7, 1800)).write(str(waveforms), format="MSEED")
    made = dataclasses.replace(clean[1], data=dataclasses.replace(clean[1].data, metadata=str(path)))
    read = 0
    try:
        for k in range(count):  # bytes, or only the values, of the third station: refused, or nothing to the others
            if k % 2:
                path.write_bytes(whole[:third] + mutated(whole[third:], rng))
            else:
                low, high = rng.choice(values)
                path.write_bytes(whole[:low] + rng.choice(VALUES) + whole[high:])
            (tmp_path / str(k)).mkdir()
            read += check_others(clean, tmp_path / str(k), made)
    finally:
        waveforms.unlink()
    assert read

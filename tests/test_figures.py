"""What figures show: axes, units, dates, scale; and how their files are called."""

import re

import numpy as np
import pytest
from archives import settings, waveform, write
from PIL import Image

import xcorr.results
from xcorr.campaign.run import run_campaign
from xcorr.results import ResultsError, figures
from xcorr.results.sample import sample
from xcorr.results.scale import scale_length
from xcorr.results.selection import Selection
from xcorr.store.accounts import availability

LIST = "network,station,latitude,longitude\nXX,AAA,46.0,8.0\nXX,BBB,46.3,8.2\nXX,CCC,45.9,8.6\nXX,DDD,,\n"
LAG = "lag (s); positive: from station 1 to station 2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("figures")
    for code in ("AAA", "BBB", "CCC", "DDD"):
        write(root / "sds", code, waveform(sum(map(ord, code))))
    (root / "list.csv").write_text(LIST)
    how = settings(root / "sds", stack={"methods": ["linear", "pws"], "substack_s": 1200})
    return run_campaign(root / "list.csv", root / "x.xcorr", how).folder


@pytest.fixture
def found(folder):
    with xcorr.results.open(folder) as results:
        yield results


def texts(axes):
    return axes.get_title(), axes.get_xlabel(), axes.get_ylabel()


class TestRecordSection:
    def test_axes_and_title(self, found):
        (axes,) = figures.record_section(found, max_lag_s=20.0).axes
        assert texts(axes) == ("ZZ, linear stack\n3 pairs, each scaled to its maximum", LAG, "distance (km)")
        assert axes.get_xlim() == (-20.0, 20.0)

    def test_traces_are_at_their_distances_with_their_shape(self, found):
        (axes,) = figures.record_section(found).axes
        rows = np.flatnonzero(np.isfinite(found.pairs["distance_m"]))
        for line, row in zip(axes.get_lines(), rows, strict=True):
            shown, mean = line.get_ydata(), found.gather()[row]
            distance = found.pairs["distance_m"][row] / 1000
            np.testing.assert_allclose(
                (shown - distance) / np.abs(shown - distance).max(), mean / np.abs(mean).max(), atol=1e-6
            )

    def test_lines_of_velocities(self, found):
        (axes,) = figures.record_section(found, velocity_km_s=(2.0, 4.0)).axes
        assert [t.get_text() for t in axes.get_legend().get_texts()] == ["2 km/s", "4 km/s"]
        lines = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
        assert len(lines) == 4
        for line in lines:
            speed = np.abs(line.get_ydata() / line.get_xdata())
            assert speed.tolist() == pytest.approx([speed[0]] * 2)
            assert round(float(speed[0]), 6) in (2.0, 4.0)

    def test_it_says_when_it_averages(self, found, monkeypatch):
        from xcorr.results.figures import sections

        monkeypatch.setattr(sections, "SECTION_BINS", 2)
        (axes,) = figures.record_section(found).axes
        assert "3 pairs, each scaled to its maximum, averaged in 2 bins of distance" in axes.get_title()
        assert len(axes.get_lines()) == 2

    def test_a_selection(self, found):
        near = float(found.pairs["distance_m"].min()) / 1000
        (axes,) = figures.record_section(found, selection=Selection(distance_km=(0, near + 0.1))).axes
        assert len(axes.get_lines()) == 1
        with pytest.raises(ResultsError, match="among those selected"):
            figures.record_section(found, selection=Selection(distance_km=(0, 1)))


class TestPair:
    def test_axes_title_and_dates(self, found):
        figure = figures.pair(found, "XX.AAA", "XX.BBB", stack="pws")
        above, below, bar = figure.axes
        assert re.match(r"XX.AAA - XX.BBB, 36\.\d km, azimuth 25°\nZZ, pws stack, 12 windows, SNR", above.get_title())
        assert above.get_ylabel() == "correlation (no unit)"
        assert below.get_xlabel() == LAG
        assert below.get_ylabel() == "date (UTC)"
        assert below.get_title() == "6 pieces, 1200 s in each row"
        assert bar.get_ylabel() == "correlation"
        figure.canvas.draw()
        assert "2024-Mar-01" in below.yaxis.get_major_formatter().get_offset()
        low, high = sorted(below.get_ylim())
        assert (high - low) * 86400 == pytest.approx(7200), "two hours"

    def test_gaps_in_time_are_gaps(self, tmp_path):
        for code in ("AAA", "BBB"):
            write(tmp_path / "sds", code, waveform(ord(code[0]), 14_400))
        (tmp_path / "list.txt").write_text("XX AAA\nXX BBB\n")
        for start, end in (("00", "01"), ("03", "04")):
            times = {"start": f"2024-03-01T{start}:00:00", "end": f"2024-03-01T{end}:00:00"}
            run_campaign(tmp_path / "list.txt", tmp_path / "x.xcorr", settings(tmp_path / "sds", data=times))
        with xcorr.results.open(tmp_path / "x.xcorr") as found:
            assert len(found.pieces) == 2
            below = figures.pair(found, "XX.AAA", "XX.BBB").axes[1]
            (mesh,) = below.collections
            shown = np.ma.filled(mesh.get_array(), np.nan)
            assert np.isnan(shown).all(axis=1).tolist() == [False, True, False]

    def test_many_pieces_are_averaged(self, found, monkeypatch):
        from xcorr.results.figures import sections

        monkeypatch.setattr(sections, "MOST_PIECES", 3)
        below = figures.pair(found, "XX.AAA", "XX.BBB").axes[1]
        assert below.get_title() == "6 pieces, 2400 s in each row"
        series = found.get("XX.AAA", "XX.BBB", "ZZ", None).values
        (mesh,) = below.collections
        expected = series.reshape(3, 2, -1).mean(axis=1)
        np.testing.assert_allclose(mesh.get_array(), expected, atol=1e-7)


class TestNetwork:
    def test_map_has_scale_and_north(self, found):
        figure = figures.station_map(found)
        (axes,) = figure.axes
        assert texts(axes) == (
            "3 stations, 1 without coordinates, 3 pairs",
            "longitude (°)",
            "latitude (°)",
        )
        words = [t.get_text() for t in axes.texts]
        assert {"XX.AAA", "XX.BBB", "XX.CCC", "N"} <= set(words)
        (bar,) = [w for w in words if w.endswith("km")]
        figure.canvas.draw()
        (line,) = [x for x in axes.get_lines() if x.get_linewidth() == 3]
        low, high = axes.get_xlim()
        km = np.ptp(line.get_xdata()) * (high - low) * 111.2 * np.cos(np.radians(46.07))
        assert km == pytest.approx(float(bar.split()[0]), rel=0.02)

    def test_a_network_across_the_date_line(self, found, monkeypatch):
        table = found.dataset("stations")
        table["longitude"] = [179.9, -179.8, 179.7, np.nan]
        whole = found.dataset
        monkeypatch.setattr(found, "dataset", lambda name: table if name == "stations" else whole(name))
        (axes,) = figures.station_map(found).axes
        low, high = axes.get_xlim()
        assert high - low < 2

    @pytest.mark.parametrize("width", [0.013, 1.0, 7.9, 8.0, 250.0, 39_999.0])
    def test_scale_bars_are_round_and_fit(self, width):
        length = scale_length(width)
        assert length <= width / 4 * (1 + 1e-9)
        assert length > width / 11
        assert f"{length:e}"[0] in "125"

    def test_matrix(self, found):
        figure = figures.matrix(found)
        axes, bar = figure.axes
        assert axes.get_title() == "ZZ, linear stack, 6 pairs"
        assert bar.get_ylabel() == "signal-to-noise ratio"
        assert [t.get_text() for t in axes.get_yticklabels()] == ["XX.AAA", "XX.BBB", "XX.CCC", "XX.DDD"]
        image = np.asarray(axes.images[0].get_array())
        assert image[0, 2] == image[2, 0] == pytest.approx(found.get("XX.AAA", "XX.CCC").attrs["snr"])
        assert np.isnan(np.diag(image)).all()

    def test_availability_has_dates(self, folder):
        figure = figures.availability(availability(folder), 3600)
        axes, bar = figure.axes
        assert axes.get_xlabel() == "date (UTC)"
        assert bar.get_ylabel() == "share of windows used"
        figure.canvas.draw()
        assert axes.xaxis.get_major_formatter().get_offset() == "2024-Mar-01"
        assert np.ptp(axes.get_xlim()) * 24 == pytest.approx(2.0)


class TestSpectra:
    def test_spectra_of_stacks(self, found):
        (axes,) = figures.spectra(found, selection=Selection(pairs=("XX.AAA-XX.BBB",))).axes
        assert texts(axes) == ("ZZ, linear stack, 1 pairs", "frequency (Hz)", "amplitude spectral density")
        line = next(x for x in axes.get_lines() if len(x.get_xdata()) > 2)
        mean = found.get("XX.AAA", "XX.BBB").values.astype(float)
        np.testing.assert_allclose(line.get_ydata(), np.abs(np.fft.rfft(mean))[1:] * 0.25, rtol=1e-5)
        np.testing.assert_allclose(line.get_xdata(), np.fft.rfftfreq(len(mean), 0.25)[1:])

    def test_power_of_a_known_trace_before_and_after(self, tmp_path):
        """White noise of variance s² at rate r has the density 2 s²/r; the filter leaves it in the band."""
        rate, sigma = 10.0, 300.0
        noise = np.round(np.random.default_rng(3).standard_normal(72_000) * sigma).astype(np.int32)
        write(tmp_path / "sds", "AAA", noise)
        write(tmp_path / "sds", "BBB")
        (tmp_path / "list.txt").write_text("XX AAA\nXX BBB\n")
        folder = run_campaign(tmp_path / "list.txt", tmp_path / "x.xcorr", settings(tmp_path / "sds")).folder
        seen = sample(folder, "XX.AAA")
        (axes,) = figures.psd(seen).axes
        raw, conditioned, normalised = [x for x in axes.get_lines() if len(x.get_xdata()) > 2]
        assert [t.get_text() for t in axes.get_legend().get_texts()] == [
            "raw (counts²/Hz)",
            "conditioned (counts²/Hz)",
            "normalised (1/Hz)",
        ]
        for line in (raw, conditioned):
            f = line.get_xdata()
            inside = (f > 0.2) & (f < 0.8)
            assert line.get_ydata()[inside].mean() == pytest.approx(2 * sigma**2 / rate, rel=0.1)
        assert conditioned.get_ydata()[conditioned.get_xdata() < 0.02].max() < raw.get_ydata().mean() / 1e3
        assert axes.get_title() == "XX.AAA..BHZ, 2024-03-01T00:00:00 UTC"
        assert len(normalised.get_xdata())

    def test_what_is_not_there(self, folder):
        with pytest.raises(ResultsError, match="no data of XX.NONE were used"):
            sample(folder, "XX.NONE")
        with pytest.raises(ResultsError, match="no data of any station were used at 2031-01-01"):
            sample(folder, None, "2031-01-01")

    def test_files_that_are_gone(self, tmp_path):
        import shutil

        for code in ("AAA", "BBB"):
            write(tmp_path / "sds", code)
        (tmp_path / "list.txt").write_text("XX AAA\nXX BBB\n")
        folder = run_campaign(tmp_path / "list.txt", tmp_path / "x.xcorr", settings(tmp_path / "sds")).folder
        shutil.rmtree(tmp_path / "sds")
        with pytest.raises(ResultsError, match="XX.AAA: its waveforms cannot be read any more"):
            sample(folder, "XX.AAA")


CHOICES = [
    (),
    ("--stack", "pws"),
    ("--max-lag", 10),
    ("--velocity", "2,3"),
    ("--distance", 1, 50),
    ("--distance", 1, 60),
    ("--azimuth", 0, 90),
    ("--pairs", "XX.A*-XX.*"),
    ("--pairs", "XX.A??-XX.*"),
    ("--pair", "XX.AAA", "XX.BBB"),
    ("--pair", "XX.AAA", "XX.CCC"),
    ("--pair", "XX.AAA", "XX.BBB", "--stack", "pws"),
    ("--map",),
    ("--matrix",),
    ("--matrix", "--stack", "pws"),
    ("--spectra",),
    ("--psd",),
    ("--psd", "--station", "XX.CCC"),
    ("--psd", "--day", "2024-03-01T01:30:00"),
    ("--availability",),
]


def test_every_choice_has_a_file_of_its_own(folder, invoke):
    names = []
    for choice in CHOICES:
        done = invoke("plot", folder, *choice)
        assert done.exit_code == 0, done.output
        path = done.output.split()[-1]
        names.append(path)
        with Image.open(path) as image:
            assert image.size[0] > 600
            assert len(image.convert("L").getcolors(100_000)) > 10, "something is drawn"
    assert len(set(names)) == len(CHOICES)
    assert names[1].endswith("section_ZZ_pws.png")
    assert names[9].endswith("pair_XX.AAA-XX.BBB_ZZ_linear.png")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (("--map", "--matrix"), "--map and --matrix are different figures"),
        (("--velocity", "fast"), "write velocities in km/s"),
        (("--velocity", "0"), "write velocities in km/s"),
        (("--max-lag", "nan"), "--max-lag: must be finite"),
        (("--max-lag", "0"), "0.0 is not in the range"),
        (("--stack", "pwx"), "no stack 'pwx' (did you mean 'pws'?)"),
        (("--components", "QQ"), "no components 'QQ'"),
        (("--band", "high"), "no band 'high'"),
        (("--pairs", "XX.AAA"), "names no pair"),
        (("--psd", "--station", "XX.NONE"), "no data of XX.NONE were used"),
        (("--psd", "--day", "noon"), "must be a time such as"),
    ],
)
def test_wrong_choices_write_nothing(folder, invoke, choice, message):
    before = set(folder.iterdir())
    done = invoke("plot", folder, *choice)
    assert done.exit_code in (1, 2)
    assert message in done.output
    assert set(folder.iterdir()) == before


def test_figures_show_in_notebooks(found):
    assert figures.station_map(found)._repr_png_().startswith(b"\x89PNG")


def test_single_pictures_are_drawn_in_axes_of_the_callers(found):
    from matplotlib.figure import Figure

    from xcorr.store.accounts import availability

    page = Figure(figsize=(12, 8))
    axes = page.subplots(2, 3).ravel()
    draws = [
        figures.record_section(found, ax=axes[0]),
        figures.station_map(found, ax=axes[1]),
        figures.matrix(found, ax=axes[2]),
        figures.spectra(found, ax=axes[3]),
        figures.availability(availability(found.path.parent), ax=axes[4]),
    ]
    assert all(drawn is page for drawn in draws)
    assert all(a.get_title() and (a.lines or a.collections or a.images) for a in axes[:5])
    assert not axes[5].lines

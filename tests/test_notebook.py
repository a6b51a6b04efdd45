"""In a notebook, results, figures and progress show themselves."""

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

CELLS = [
    "import xcorr",
    f"""r = xcorr.run({str(ROOT / "configs/demo/stations.txt")!r}, "x.xcorr", progress="bar")""",
    "r",
    "from xcorr.results import figures; figures.record_section(r)",
    "r.get('XX.D00', 'XX.D01')",
]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What a kernel shows below each cell."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    place = str(tmp_path_factory.mktemp("notebook"))
    NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": place}}).execute()
    return [cell.outputs for cell in book.cells]


def test_progress_is_one_picture_that_changes(outputs):
    """The bars at the end, and no escape sequences of a terminal."""
    shown = [o for o in outputs[1] if o.output_type == "display_data"]
    assert len(shown) == 1
    text = shown[0].data["text/plain"]
    assert "ReadStation" in text
    assert "56/56" in text
    assert "\x1b" not in str([o.get("text", "") for o in outputs[1]])


def test_results_and_figures_show_themselves(outputs):
    assert "<table" in outputs[2][0].data["text/html"]
    assert outputs[3][0].data["image/png"]
    assert "XX.D00-XX.D01" in outputs[4][0].data["text/html"]

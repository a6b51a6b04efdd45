"""Builds the site: ``make docs``. Pages of settings, commands and the library are made from the code."""

import json
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import reference_pages

import xcorr

project, author, copyright = "xcorr", "the authors of xcorr", "the authors of xcorr"
version = release = xcorr.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
templates_path = []
suppress_warnings = ["myst.header"]  # pages of one section need not begin at its level
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "force"  # always, so that outputs are those of the code that is documented
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True

# their indexes are on the network; without it, references to them are plain names
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "obspy": ("https://docs.obspy.org", None),
        "xarray": ("https://docs.xarray.dev/en/stable", None),
        "h5py": ("https://docs.h5py.org/en/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
    }
    if os.environ.get("XCORR_DOCS_ONLINE")
    else {}
)

smartquotes = False  # quotation marks of settings stay as they are typed
html_theme = "pydata_sphinx_theme"
html_title = "xcorr"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
}
html_show_sourcelink = False


def plain(app, what, name, obj, options, lines):
    """Turn docstrings, which are written to be read in a terminal too, into reStructuredText.

    |x| is no substitution; sections such as "Parameters" with lines ``name : meaning`` become lists.
    """
    for k, line in enumerate(lines):
        parts = line.split("``")
        lines[k] = "``".join(part.replace("|", "\\|") if n % 2 == 0 else part for n, part in enumerate(parts))
    found, k = [], 0
    while k < len(lines):
        if k + 1 < len(lines) and lines[k].strip() and re.fullmatch(r"-{3,}", lines[k + 1].strip()):
            found += [f"**{lines[k].strip()}**", ""]
            k += 2
            while k < len(lines) and (lines[k].startswith(" ") or re.match(r"[\w, *]+ : ", lines[k])):
                begin = re.match(r"([\w, *]+) : (.*)", lines[k])
                found.append(f"- ``{begin[1]}``: {begin[2]}" if begin else f"  {lines[k].strip()}")
                k += 1
            found.append("")
        else:
            found.append(lines[k])
            k += 1
    lines[:] = found


def alone(app, error):
    """Let downloaded notebooks stand alone: without links to pages, which are not beside them."""
    for path in Path(app.outdir).glob("_downloads/*/*.ipynb"):
        book = json.loads(path.read_text("utf-8"))
        for cell in book["cells"]:
            if cell["cell_type"] == "markdown":
                text = "".join(cell["source"])
                text = re.sub(r" ?\(\{nb-download\}[^)]*\)", "", text)
                cell["source"] = re.sub(r"!?\[([^]]*)\]\((?!http)[^)]*\)", r"\1", text)
        path.write_text(json.dumps(book, indent=1), "utf-8")


def setup(app):
    """Write the pages that are made from the code, before Sphinx looks for pages."""
    app.connect("config-inited", lambda app, config: reference_pages.write(Path(app.srcdir) / "reference"))
    app.connect("autodoc-process-docstring", plain)
    app.connect("build-finished", alone)

"""Builds the site: ``make docs``. Pages of settings, commands and the library are made from the code."""

import os
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
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
templates_path = []
suppress_warnings = ["myst.header"]  # pages of one section need not begin at its level
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "cache"  # by content: a page is executed again only if its code has changed
nb_execution_cache_path = os.environ.get("XCORR_DOCS_CACHE", "")
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
napoleon_custom_sections = [("Class attributes", "params_style")]

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


def plain_bars(app, what, name, obj, options, lines):
    """Keep |x| of docstrings, which are written to be read in a terminal too, from being a substitution."""
    for k, line in enumerate(lines):
        parts = line.split("``")
        lines[k] = "``".join(part.replace("|", "\\|") if n % 2 == 0 else part for n, part in enumerate(parts))


def setup(app):
    """Write the pages that are made from the code, before Sphinx looks for pages."""
    app.connect("config-inited", lambda app, config: reference_pages.write(Path(app.srcdir) / "reference"))
    app.connect("autodoc-process-docstring", plain_bars)

"""The wheel: pages and assets are in it; in an environment of its own, outside of the repository, it serves offline."""

import os
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT
from web_server import TOKEN


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Made of the sdist, in which the links below xcorr/ are not."""
    place = tmp_path_factory.mktemp("wheel")
    make_sdist = f"from setuptools import build_meta; build_meta.build_sdist({str(place)!r})"
    subprocess.run([sys.executable, "-c", make_sdist], cwd=ROOT, check=True, capture_output=True, timeout=300)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", place, next(place.glob("*.tar.gz"))]
    subprocess.run(command, check=True, timeout=300)
    return next(place.glob("*.whl"))


def test_settings_data_pages_and_assets_are_inside(wheel):
    with zipfile.ZipFile(wheel) as found:
        sizes = {i.filename: i.compress_size for i in found.infolist()}
        vendored = sum(i.file_size for i in found.infolist() if "/static/vendor/" in i.filename)
    for folder, packaged in (
        *(("configs", "xcorr/configs"), ("data/demo", "xcorr/sample")),
        *((f"xcorr/web/{name}", f"xcorr/web/{name}") for name in ("templates", "static")),
    ):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                assert f"{packaged}/{path.relative_to(ROOT / folder)}" in sizes
    assert "xcorr/results/templates/report.html" in sizes
    assert {"xcorr/cli/start.py", "xcorr/core/loop.py", "xcorr/pes/reading/read.py"} <= sizes.keys()
    assert sum(size for name, size in sizes.items() if name.startswith("xcorr/web/")) < 1.5e6
    assert vendored < 1.2e6


@pytest.mark.slow
def test_it_serves_from_a_clean_environment(wheel, demo, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    subprocess.run([tmp_path / "env" / "bin" / "pip", "install", "-q", f"{wheel}[web]"], check=True)
    from web_server import Server

    command = [tmp_path / "env" / "bin" / "xcorr", "serve", demo, "--port", "0"]
    how = {"cwd": tmp_path, "env": {"PATH": os.environ["PATH"], "XCORR_TOKEN": TOKEN, "HOME": str(tmp_path)}}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how) as process:
        port = int(process.stdout.readline().rpartition(":")[2].partition("/")[0])
        server = Server(port)
        for address in ("/", "/docs", "/c/demo", "/c/demo/pairs", "/c/demo/lineage?pair=XX.D00-XX.D01"):
            assert server.ask(address).status == 200
        for kind in ("sac", "nc"):
            assert server.api("/download", format=kind, snr_min=9).status == 200
        assert server.api("/lineage", pair="XX.D00-XX.D01", format="turtle").status == 200
        process.terminate()

"""The pages, in a real browser: opened and used, without errors, without requests to other hosts, accessible."""

import gc
import importlib.resources
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from conftest import ROOT
from web_server import TOKEN, serving

from xcorr.results.compare import differences

playwright = pytest.importorskip("playwright.sync_api") if "CI" not in os.environ else __import__("playwright.sync_api")
from playwright.sync_api import sync_playwright  # noqa: E402

NAMES = ("chromium", "chromium-browser", "google-chrome")
PAGES = ["/", "/docs", *(f"/c/demo{p}" for p in (
    "", "/pairs", "/pairs?snr_min=5&sort=-snr", "/pair/XX.D00/XX.D05", "/pair/XX.D00/XX.D13", "/gather?velocities=2,3",
    "/availability", "/lineage", "/lineage?pair=XX.D00-XX.D05", "/runs", "/runs/1", "/kept",
)), "/c/kept/kept?element=ConditionStation&condition=windows_used+%3E+3"]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    path = os.environ.get("XCORR_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as started:
        if path is None and not Path(started.chromium.executable_path).exists():
            assert "CI" not in os.environ, "CI needs Chromium: make browser installs it"
            pytest.skip("Chromium is not installed: make browser")
        with started.chromium.launch(executable_path=path, args=flags) as found:
            yield found
    del started, found
    with warnings.catch_warnings():  # Playwright leaves a pipe open, of which a later test would be accused
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def page(browser, server):
    """A page that is let in; at its end nothing may have gone wrong on it."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    found, wrong = context.new_page(), []
    found.on("console", lambda m: wrong.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
    found.on("pageerror", lambda e: wrong.append(str(e)))
    found.on(
        "request", lambda r: wrong.append(r.url) if not r.url.startswith((server.base, "data:", "blob:")) else None
    )
    found.goto(f"{server.base}/?token={TOKEN}")
    assert found.url == f"{server.base}/"
    yield found
    context.close()
    assert wrong == []


def until(page, expression, seconds=20):
    """Wait until an expression is true on the page. (Playwright's own waiting needs what the pages' policy forbids.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)


def axe(page):
    """What axe-core finds wrong, in a line each."""
    source = (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text()
    page.evaluate(source)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate("(tags) => axe.run({runOnly: tags})", tags)
    return [f"{v['id']}: {n['html'][:150]}" for v in found["violations"] for n in v["nodes"]]


@pytest.mark.parametrize("address", PAGES)
def test_every_page_opens_is_accessible_and_narrow(page, server, address):
    page.goto(server.base + address)
    assert page.locator("h1").count() == 1
    assert axe(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    until(page, "document.documentElement.scrollWidth <= 360")  # a telephone shows all of it
    until(page, "[...document.images].every(i => i.loading === 'lazy' || (i.complete && i.naturalWidth > 0))")


def test_filter_sort_and_go_to_a_pair(page, server):
    page.goto(f"{server.base}/c/demo/pairs")
    page.get_by_label("signal-to-noise from").fill("9")
    page.get_by_role("button", name="Show").click()
    assert "snr_min=9" in page.url
    total = int(page.get_by_role("status").inner_text().split()[0])
    assert 0 < total < 91
    assert page.locator("tbody tr").count() == total == server.api("/pairs", snr_min=9).json()["total"]
    page.get_by_role("link", name="snr", exact=True).click()
    page.get_by_role("link", name="snr", exact=True).click()
    assert "sort=-snr" in page.url
    best = page.locator("tbody tr").first
    name = best.get_by_role("link").inner_text()
    assert name.split(" – ")[0] == server.api("/pairs", sort="-snr", limit=1).json()["items"][0]["station_1"]
    page.wait_for_selector("#map[data-drawn]")
    best.hover()
    assert page.locator("circle.station.on").count() == 2, "the row's stations are marked on the map"
    best.get_by_role("link").click()
    assert page.locator("h1").inner_text() == name
    page.wait_for_selector("#plot[data-drawn]")
    assert page.locator("#plot canvas").count() == 1


def test_map_facets_and_matrix_select_pairs(page, server):
    page.goto(f"{server.base}/c/demo/pairs")
    page.get_by_role("link", name="station XX.D05").click()
    assert "sta1=XX.D05" in page.url
    assert page.get_by_role("status").inner_text().startswith("13 pairs")
    page.locator(".bars a").nth(3).click()
    assert "distance_km_min" in page.url
    page.goto(f"{server.base}/c/demo/pairs")
    box = page.locator("input[type=image]").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.3)
    page.wait_for_url(re.compile(r"/pair/XX\.D\d\d/XX\.D\d\d"))
    page.goto(f"{server.base}/c/demo/gather")
    box = page.locator("input[type=image]").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url(re.compile(r"/pair/XX\.D\d\d/XX\.D\d\d"))


def test_lineage_back_to_a_file_and_forward(page, server):
    page.goto(f"{server.base}/c/demo/pair/XX.D00/XX.D05")
    page.get_by_role("link", name="follow the lineage").click()
    assert "In sentences" in page.inner_text("main")
    page.locator(".graph a", has_text="file").first.click()
    assert "open=file" in page.url
    page.locator(".graph a", has_text="XX.D05").first.click()
    assert "file=" in page.url
    assert "It touched 12 stack(s)" in page.inner_text("main")
    assert "--refresh" in page.inner_text("main")
    page.locator("details", has_text="The stacks").locator("summary").first.click()
    assert "XX.D00-XX.D05" in page.inner_text("main")
    page.goto(f"{server.base}/c/kept/kept")
    page.get_by_role("link", name=re.compile("lineage of")).first.click()
    assert "ReadStation" in page.inner_text("main")


def test_a_cell_of_availability_opens_its_account(page, server):
    page.goto(f"{server.base}/c/demo/availability")
    box = page.locator("input[type=image]").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.8)
    page.wait_for_selector("#account")
    assert "XX.D13.Z" in page.inner_text("#account") or "used" in page.inner_text("#account")
    page.locator("#account a").first.click()
    assert "file=" in page.url


def test_downloads_and_rule_builder(page, server):
    page.goto(f"{server.base}/c/demo/pair/XX.D00/XX.D05")
    with page.expect_download() as download:
        page.get_by_role("link", name="sac", exact=True).click()
    assert download.value.suggested_filename == "XX.D00_XX.D05_ZZ.sac"
    page.goto(f"{server.base}/c/kept/kept")
    assert page.locator("tbody tr").count() == 4
    page.get_by_role("textbox", name="condition").fill("station == 'XX.D05' and windows_used > 3")
    page.get_by_role("button", name="Count").click()
    assert "would have kept 3 of 56 items" in page.inner_text("main")


def test_without_javascript(browser, server):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.goto(f"{server.base}/?token={TOKEN}")
    for address in PAGES[::3]:
        page.goto(server.base + address)
        assert page.locator("h1").is_visible()
    page.goto(f"{server.base}/c/demo/pairs?snr_min=9")
    assert page.locator("tbody tr").count() > 5
    assert page.locator(".map .station").count() == 14
    page.locator("input[type=image]").click(position={"x": 300, "y": 120})
    assert "/pair/" in page.url
    assert page.locator("#plot img").is_visible()
    context.close()


def test_a_running_campaign_is_seen_live(browser, demo, tmp_path):
    """The page and the events follow a run; the results of the run are the same to the bit."""
    (tmp_path / "slow.py").write_text(
        "import time\nfrom xcorr.core import IterativePE\n\n\nclass Slow(IterativePE):\n    stateless = True\n\n"
        "    def _process(self, x):\n        time.sleep(0.15)\n        return x\n"
    )
    data_home = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    xcorr = [sys.executable, "-m", "xcorr"]
    subprocess.run([*xcorr, "registry", "add", tmp_path / "slow.py"], env=data_home, check=True, capture_output=True)
    text = (ROOT / "configs" / "demo" / "xcorr.toml").read_text().replace("../../data", str(ROOT / "data"))
    insert = '[[insert]]\nelement = "Slow"\nafter = "ReadStation"\n'
    (tmp_path / "xcorr.toml").write_text(f"{text}\n{insert}")
    shutil.copy(ROOT / "configs" / "demo" / "stations.txt", tmp_path)
    arguments = [tmp_path / "stations.txt", "-o", tmp_path / "y.xcorr"]
    with subprocess.Popen([*xcorr, "run", *arguments], env=data_home, stderr=subprocess.DEVNULL) as run:
        while not (tmp_path / "y.xcorr" / "progress.json").exists():
            assert run.poll() is None
            time.sleep(0.05)
        with serving(tmp_path / "y.xcorr") as server:
            page = browser.new_page()
            page.goto(f"{server.base}/?token={TOKEN}")
            page.goto(f"{server.base}/c/y")
            until(page, "document.querySelector('progress[aria-label=Slow]')?.value > 0")
            assert "running" in page.inner_text("[data-live=running]")
            first = page.locator("progress[aria-label=Slow]").evaluate("p => p.value")
            until(page, f"(document.querySelector('progress[aria-label=Slow]')?.value ?? 99) > {first}")
            assert run.wait(120) == 0
            ended = time.monotonic()
            until(page, "document.querySelector('[data-live=running]').textContent === 'done'")
            assert time.monotonic() - ended < 3
            page.wait_for_selector("#new-results:not([hidden])")
            page.close()
    assert list(differences(demo, tmp_path / "y.xcorr")) == []

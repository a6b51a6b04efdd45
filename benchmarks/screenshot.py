"""Makes the picture in the README: a page of the web application, in a browser, of the demo.

    python benchmarks/screenshot.py docs/pairs.png

Needs the demo (make demo) and Chromium (make browser).
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

DEMO = Path(__file__).parent.parent / "demo-out" / "demo.xcorr"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    command = [sys.executable, "-m", "xcorr", "serve", DEMO, "--port", "0"]
    environment = {**os.environ, "XCORR_TOKEN": secrets.token_urlsafe(24)}
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    with started as server, sync_playwright() as p:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with p.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS) as browser:
            page = browser.new_page(viewport={"width": 1180, "height": 960})
            page.goto(address)
            page.goto(f"{address.partition('?')[0]}c/demo/pairs?snr_min=5")
            page.locator("#map[data-drawn]").wait_for()
            page.wait_for_timeout(500)
            page.screenshot(path=given.picture)
        server.terminate()


if __name__ == "__main__":
    main()

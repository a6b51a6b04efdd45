"""How long the web application takes on a large campaign: the second request and later ones, p95, and the memory.

    python benchmarks/web.py CAMPAIGN [--requests 20]

``benchmarks/big_campaign.py`` makes a campaign of 499,500 pairs x 730 days. A real server is started, as by
``xcorr serve``. Each question is asked once, then again with other stations, pairs or limits, so that no answer can be
one that was kept. Every line gives the question, its 95th percentile, the limit set for it, and bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from xcorr.results import Results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("--requests", type=int, default=20)
    given = parser.parse_args()
    name = given.campaign.resolve().name.removesuffix(".xcorr")
    with Results(given.campaign) as results:
        stations = results.dataset("stations")["id"].astype(str)
        ends = results.dataset("pairs")[["station_1", "station_2"]][:64]
        pairs = [(stations[a], stations[b]) for a, b in ends]
    with served(given.campaign) as (ask, pid, first):
        warm(given.campaign)
        print(f"{'first answer after start':34} {first * 1000:8.0f} ms  (limit 2000)")
        base = f"/api/v1/campaigns/{name}"
        for what, limit, address in questions(base, stations, pairs):
            measure(ask, what, limit, address, given.requests, pid)
        print(f"{'memory, at most':34} {memory(pid):8.0f} MB  (limit 500)")


def memory(pid: int) -> float:
    """Return the most memory that a process has had so far (MB)."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1000


def questions(
    base: str, stations: np.ndarray, pairs: list[tuple[str, str]]
) -> Iterator[tuple[str, int, Callable[[int], str]]]:
    yield "filter, sort, page", 100, lambda k: f"{base}/pairs?snr_min={5 + k / 10}&distance_km_max={100 + k}&sort=-snr"
    yield "all pairs, sorted", 100, lambda k: f"{base}/pairs?sort=-distance_km&limit={100 + k}"
    yield "where, sort, page", 100, lambda k: f"{base}/pairs?where=snr+%3E+{k / 7}+or+symmetry+%3C+0.1&sort=snr"
    yield "facets of all pairs", 100, lambda k: f"{base}/pairs/facets?snr_min={k / 100}"
    yield "matrix, png", 200, lambda k: f"{base}/matrix?snr_min={k / 100}"
    yield "series of a pair, nc", 1000, lambda k: f"{base}/pairs/{pairs[k][0]}/{pairs[k][1]}/series?format=nc"
    yield "waterfall of a pair, png", 1000, lambda k: f"{base}/pairs/{pairs[k][0]}/{pairs[k][1]}/series?format=png"
    yield "gather of a station, png", 200, lambda k: f"{base}/gather?sta1={stations[17 * k % len(stations)]}"
    yield "lineage of a pair", 1000, lambda k: f"{base}/lineage?pair={pairs[k][0]}-{pairs[k][1]}"
    yield (
        "what a file touched",
        0,
        lambda k: f"{base}/lineage?file=/archive/2024/YY/S{k:04d}/BHZ.D/YY.S{k:04d}..BHZ.D.2024.{k + 61:03d}",
    )
    yield "page of invocations", 20, lambda k: f"{base}/runs/1/activity?element=NormalizeStation&limit={100 + k}"
    yield "page of items", 0, lambda k: f"{base}/items?limit={100 + k}"
    yield "stations", 0, lambda k: f"{base}/stations?limit={500 + k}"
    yield "page: overview", 0, lambda k: f"/c/{base.rpartition('/')[2]}"
    yield "page: pairs", 0, lambda k: f"/c/{base.rpartition('/')[2]}/pairs?snr_min={10 + k}"
    yield "page: pair", 0, lambda k: f"/c/{base.rpartition('/')[2]}/pair/{pairs[k][0]}/{pairs[k][1]}"
    yield "availability, png", 0, lambda k: f"{base}/availability?format=png&sta=S0{k:02d}*"


def warm(campaign: Path) -> None:
    """Read all files once, so that no question waits for the disk."""
    for path in sorted(p for p in campaign.rglob("*") if p.is_file()):
        with path.open("rb", buffering=0) as file:
            while file.read(16 << 20):
                pass


def measure(
    ask: Callable[[str], bytes], what: str, limit: int, address: Callable[[int], str], requests: int, pid: int
) -> None:
    times, size = [], 0
    for k in range(requests + 1):
        start = time.perf_counter()
        size = len(ask(address(k)))
        times.append(1000 * (time.perf_counter() - start))
    late = np.percentile(times[1:], 95)
    told = f"(limit {limit})" if limit else ""
    print(
        f"{what:34} {late:8.0f} ms  {told:13} first {times[0]:6.0f} ms, {size:10,} bytes, {memory(pid):4.0f} MB",
        flush=True,
    )


@contextlib.contextmanager
def served(campaign: Path) -> Iterator[tuple[Callable[[str], bytes], int, float]]:
    """Serve a campaign; give a function that asks, the server's process, and the seconds until its first answer."""
    token = secrets.token_urlsafe(20)
    start = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "xcorr", "serve", campaign, "--port", "0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "XCORR_TOKEN": token},
    )  # fmt: skip
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])

        def ask(address: str) -> bytes:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            connection.request("GET", address, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, (address, answer.status, body[:300])
            return body

        ask("/api/v1/campaigns")
        yield ask, server.pid, time.perf_counter() - start
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()

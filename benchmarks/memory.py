"""Memory of processes as the system counts it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def pss_mb(processes: Iterable[int]) -> float:
    """Return the proportional set sizes (PSS) of processes together; of those that have just ended nothing."""
    total = 0
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except (OSError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@contextmanager
def peak_mb(measure: Callable[[], float]) -> Iterator[list[float]]:
    """Measure again and again in a thread; the list holds the largest value."""
    peak, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.3):
            peak[0] = max(peak[0], measure())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()

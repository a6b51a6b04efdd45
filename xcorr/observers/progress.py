"""Live progress of a run: one bar for each stage on a terminal, else one line a minute, or JSON events."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from xcorr.core import Observer
from xcorr.core.observe import WorkerStatistics

LINE_S = 60.0
BAR = 24


def summarize(workers: Sequence[WorkerStatistics]) -> dict[str, Any]:
    """Return the totals of all workers: items and seconds by element, bytes by connection, seconds by worker."""
    items: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for instance in (i for worker in workers for i in worker.instances):
        items[instance.element] = items.get(instance.element, 0) + instance.received
        seconds[instance.element] = round(seconds.get(instance.element, 0.0) + instance.seconds, 3)
    moved: dict[str, int] = {}
    for worker in workers:
        for connection, (_, size) in worker.moved.items():
            moved[connection] = moved.get(connection, 0) + size
    return {
        "seconds": max((w.seconds for w in workers), default=0.0),
        "items": items,
        "element_seconds": seconds,
        "bytes_moved": moved,
        "cpu_seconds": {str(w.worker): round(w.cpu_seconds, 3) for w in workers},
        "wall_seconds": {str(w.worker): round(w.seconds, 3) for w in workers},
    }


def _units(workers: Sequence[WorkerStatistics]) -> dict[str, float]:
    """Return the totals of the units that elements count (:attr:`xcorr.core.GenericPE.unit`), by unit."""
    units: dict[str, float] = {}
    for instance in (i for w in workers for i in w.instances if i.unit):
        units[instance.unit] = units.get(instance.unit, 0.0) + instance.units
    return units


def numbers(workers: Sequence[WorkerStatistics], expected: Mapping[str, int]) -> dict[str, Any]:
    """Return totals, rates by unit, how many items were skipped, and the seconds left where they can be foreseen."""
    latest, units = summarize(workers), _units(workers)
    skipped = sum(instance.skipped for worker in workers for instance in worker.instances)
    return {**latest, "skipped": skipped, **_rates(latest, units, expected)}


def _rates(latest: dict[str, Any], units: Mapping[str, float], expected: Mapping[str, int]) -> dict[str, float]:
    seconds = max(latest["seconds"], 1e-3)
    rates = {f"{unit}_per_s": round(count / seconds, 1) for unit, count in units.items()}
    left = _seconds_left(latest, expected)
    return rates if left is None else {**rates, "seconds_left": round(left, 1)}


def _seconds_left(latest: dict[str, Any], expected: Mapping[str, int]) -> float | None:
    """Return the seconds left of the slowest stage, at its pace so far; None before every stage has begun."""
    done = [(latest["items"].get(s, 0), n) for s, n in expected.items()]
    left = [latest["seconds"] * (n - k) / k for k, n in done if k]
    return max(left) if left and len(left) == len(done) else None


def busy_shares(summary: dict[str, Any]) -> dict[str, float]:
    """Return CPU time inside elements over wall time, by worker. ``summary`` is from :func:`summarize`."""
    return {w: cpu / max(summary["wall_seconds"][w], 1e-3) for w, cpu in summary["cpu_seconds"].items()}


def _notebook() -> Any:
    """Return the function by which a notebook shows something; None in other programs."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return None
    return sys.modules["IPython"].display.display


class Progress(Observer):
    """Shows how far a run has come.

    ``expected`` gives the total number of items of each element, where that number is known. ``style`` is ``bar``,
    ``line`` or ``json``.
    """

    def __init__(self, expected: dict[str, int], style: str = "line", stream: TextIO | None = None) -> None:
        self.expected, self.style = expected, style
        self.stream = stream
        self.last = time.perf_counter()
        self.drawn = 0
        self.closed = False
        self.shown: Any = None  # in a notebook: what its next update replaces
        self.latest: dict[str, Any] = {}
        self.units: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the stream, because only the coordinator shows progress."""
        return {**vars(self), "stream": None, "shown": None}

    def progress(self, workers: Sequence[WorkerStatistics], finished: bool) -> None:
        """Show the latest numbers, in style ``line`` once a minute."""
        now = time.perf_counter()
        self.latest, self.units = summarize(workers), _units(workers)
        if self.style == "line" and not finished and now - self.last < LINE_S:
            return
        self.last = now
        out = self.stream or sys.stderr
        if out is None or self.closed:  # a program may have closed it
            return
        try:
            self._show(out, finished)
        except (OSError, ValueError):  # whoever read it has left; the run goes on
            self.closed = True

    def _show(self, out: TextIO, finished: bool) -> None:
        if self.style == "json":
            out.write(
                json.dumps({"event": "finished" if finished else "progress", **self.latest, **self._rates()}) + "\n"
            )
        elif self.style == "bar" and self.stream is None and (display := _notebook()) is not None:
            content = {"text/plain": "\n".join(self._bars())}
            if self.shown is None:
                self.shown = display(content, raw=True, display_id=True)
            else:
                self.shown.update(content, raw=True)
        elif self.style == "bar":
            width = shutil.get_terminal_size().columns - 1  # a line that is wrapped would be drawn twice
            lines = [line[:width] for line in self._bars()]
            out.write(f"\x1b[{self.drawn}F" * bool(self.drawn) + "".join(f"\x1b[2K{line}\n" for line in lines))
            self.drawn = len(lines)
        elif not finished:
            out.write(self._line() + "\n")
        out.flush()

    def _rates(self) -> dict[str, float]:
        return _rates(self.latest, self.units, self.expected)

    def _line(self) -> str:
        stages = [f"{s} {self.latest['items'].get(s, 0)}/{n}" for s, n in self.expected.items()]
        moved = sum(self.latest["bytes_moved"].values()) / 1e6
        rates = [f"{v:g} {k.replace('_', ' ')}" for k, v in self._rates().items()]
        return f"{self.latest['seconds']:.0f} s: {', '.join(stages)}; {moved:.0f} MB moved; {', '.join(rates)}"

    def _bars(self) -> list[str]:
        lines = []
        for stage, number in self.expected.items():
            done = self.latest["items"].get(stage, 0)
            full = round(BAR * done / number) if number else BAR
            lines.append(f"{stage:18} [{'#' * full}{' ' * (BAR - full)}] {done}/{number}")
        moved = [f"{c}: {size / 1e6:.1f} MB" for c, size in self.latest["bytes_moved"].items()]
        cpu = [f"{w}: {share:.0%}" for w, share in busy_shares(self.latest).items()]
        rates = [f"{v:g} {k.replace('_', ' ')}" for k, v in self._rates().items()]
        lines.append(f"{'moved':18} {', '.join(moved) or 'nothing'}")
        lines.append(f"{'busy':18} worker {', '.join(cpu)}   {', '.join(rates)}")
        return lines

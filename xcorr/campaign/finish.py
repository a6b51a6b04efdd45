"""The end of a run: its report, and the marks by which later damage is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.results.report_page import write_page
from xcorr.store import doubts
from xcorr.store.derived import damaged_measurements, settle_all
from xcorr.store.ledger import Ledger
from xcorr.store.report import write_report


def finish(folder: Path, ledger: Ledger, report: dict[str, Any]) -> None:
    """Write the reports of a run, and seal what it has made.

    ``report`` gets a warning for each measurement that is damaged.
    """
    report.setdefault("warnings", []).extend(damaged_measurements(ledger))
    write_report(folder, report)
    write_page(folder, report)
    settle_all(ledger)
    doubts.clear(folder)
    ledger.seal()


def pairs_with_data(folder: Path) -> int:
    """Return how many pairs of the results of a campaign have a window."""
    import h5py

    with h5py.File(folder / RESULTS) as file:
        # of all methods, because the stacks of some may lack the newest pairs
        counts = [group["n_windows"][...] for method in file["stacks"].values() for group in method.values()]
    return int(np.count_nonzero(np.any(counts, axis=0)))

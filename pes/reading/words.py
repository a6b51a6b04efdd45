"""Words for what was wrong with data, of a length that people read."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from xcorr.core.files import printable
from xcorr.pes.reading.clocks import Drift

_log = logging.getLogger("xcorr")
MOST_TEXTS, MOST_LETTERS = 3, 600  # of a reason


def drifted(drift: Drift) -> str:
    """Return what the times of records say of a clock."""
    return (
        f"its records' times give {drift.rate_hz:.9g} Hz, {drift.ppm:+.3g} ppm from the header's rate, "
        f"{abs(drift.seconds):.3g} s over the data"
    )


def short(path: str) -> str:
    """Return the name of a file, for messages."""
    return printable(os.path.basename(path))


def brief(texts: Sequence[str]) -> str:
    """Return texts as one, and how many more there are; the log has all of them."""
    if len(texts) > MOST_TEXTS:
        _log.info("all of %d messages: %s", len(texts), "; ".join(texts))
        texts = [*texts[:MOST_TEXTS], f"and {len(texts) - MOST_TEXTS} more"]
    text = "; ".join(texts)
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]} ..."

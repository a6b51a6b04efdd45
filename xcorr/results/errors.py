"""The error of results that do not exist."""

from __future__ import annotations

from xcorr.core import XcorrError


class ResultsError(XcorrError, KeyError):
    """A result that was asked for does not exist: file, pair, components, band or stack."""

    def __str__(self) -> str:
        """Return the message itself: KeyError would show its repr."""
        return str(self.args[0])

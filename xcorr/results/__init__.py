"""Reading results: pairs and correlations, figures, exports, comparison, the report page."""

from xcorr.results.reader import Results, ResultsError, open

__all__ = ["Results", "ResultsError", "open"]

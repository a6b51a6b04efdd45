"""Reading results: pairs and correlations, figures, exports, comparison, the report page."""

from xcorr.results.errors import ResultsError
from xcorr.results.reader import Results, open

__all__ = ["Results", "ResultsError", "open"]

"""Reads correlations that other programs have made. A reader has an entry point in the group ``xcorr.imports``."""

"""Observers of a run: progress on the screen, and a log for every worker."""

"""What watches a run: progress on the screen, a log for every worker."""

"""From spectra to correlations: the layout of pairs in tiles, cross spectra, estimates."""

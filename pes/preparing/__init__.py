"""From segments to the spectra of windows: conditioning, orientation, normalisation, whitening."""

"""Fourier transforms, analytic signals and running means."""

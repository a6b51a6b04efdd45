"""Ambient-noise cross-correlation of seismic networks as a stream workflow."""

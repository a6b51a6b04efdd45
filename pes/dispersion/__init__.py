"""Dispersion of surface waves: phase and group velocities by period, from stacks."""

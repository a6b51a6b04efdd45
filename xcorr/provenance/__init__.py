"""Provenance: what every product came from, recorded while a run goes on, asked and exported afterwards."""

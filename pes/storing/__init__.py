"""Correlations in files: one shard for every chunk and strip."""

"""From the series in shards to stacks, and the file that a user opens."""

"""Making results: what a campaign still lacks, the workflows that make it, what they will take."""

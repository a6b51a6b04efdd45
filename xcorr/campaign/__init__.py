"""Making results: what is still to be computed, the workflows that compute it, and forecasts of their cost."""

"""Train a recommender, explain it, prune what does nothing, and prove what the cut did."""

__version__ = "0.1.0"

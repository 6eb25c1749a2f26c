"""Training a recommender, and choosing its best epoch."""

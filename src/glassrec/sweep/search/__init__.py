"""Optuna chooses the jobs, one by one, and learns from what came of them."""

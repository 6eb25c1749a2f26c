"""Metrics of quality and cost, and what their names say."""

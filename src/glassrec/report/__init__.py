"""Figures and pages of a run: results, statements, figures and the report."""

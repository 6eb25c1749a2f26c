"""Models that were built and trained elsewhere, behind the seam of `models/base.py`."""

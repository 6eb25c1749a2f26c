"""The Pareto front: what nothing beats in one respect without losing in another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def front(merits: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each of n points, given by k merits of which more is better, is on the front.

    A point is dominated by one that is nowhere worse and somewhere better: equal points are both on
    it. One with a merit that is not a number is not.
    """
    points = np.array(merits, dtype=float)
    if not points.size:
        return [False] * len(points)
    no_worse = (points[:, None] >= points).all(2)  # (n, n): row against column
    better = (points[:, None] > points).any(2)
    dominated = (no_worse & better).any(0)
    return [bool(each) for each in ~dominated & ~np.isnan(points).any(1)]

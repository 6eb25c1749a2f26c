"""Intervals by a bootstrap over independent units: rows, or whole ranking lists, or users.

In each draw the units are drawn anew (Efron and Tibshirani, "An Introduction to the Bootstrap",
1993, chapter 8): it weighs each of them by a Poisson(1) count, which for many is as good as drawing
with replacement (Chamandy et al., Google, 2012), so that scores are sorted once for all draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from math import exp, factorial

import numpy as np
import torch
from torch import Tensor

from glassrec.metrics.pointwise import Statistic
from glassrec.progress import with_progress

DRAWS, FEWER_DRAWS, MANY_UNITS = 1000, 200, 100_000
"""Draws of the bootstrap, and the draws for more units than so many."""

WEIGHTS_PER_CHUNK = 2**20
"""Weights that are drawn at once: 8 MiB."""


def bootstrap(
    statistics: Mapping[str, Statistic], units: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Each statistic with all units of weight 1, and the ends of its 95 % interval."""
    draws = DRAWS if units <= MANY_UNITS else FEWER_DRAWS
    drawn = ((len(weights), weights) for weights in _weights(units, draws, seed))
    parts = [
        torch.stack([each(weights) for each in statistics.values()])
        for weights in with_progress(drawn, draws, unit="draws")
    ]
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.cat(parts, 1).nanquantile(ends, 1).tolist()
    once = torch.ones(1, units, dtype=torch.float64)
    points = [each(once).item() for each in statistics.values()]
    return dict(zip(statistics, zip(points, low, high, strict=True), strict=True))


def _weights(units: int, draws: int, seed: int) -> Iterator[Tensor]:
    """(D, units) float64, some of the draws at a time: Poisson(1) counts."""
    generator = np.random.default_rng(seed)
    at_once = max(1, WEIGHTS_PER_CHUNK // units)
    for start in range(0, draws, at_once):
        shape = min(at_once, draws - start), units
        uniform = generator.integers(0, 2**16, shape, dtype=np.uint16)
        yield torch.from_numpy(_poisson()[uniform])


@cache
def _poisson() -> np.ndarray:
    """(65536,): the Poisson(1) count of a uniform number of 16 bits; a look-up is fast."""
    shares = np.cumsum([exp(-1) / factorial(events) for events in range(12)])
    middles = (np.arange(2**16) + 0.5) / 2**16
    return np.searchsorted(shares, middles).astype(np.float64)


def mean(sums: Tensor, counts: Tensor | None = None) -> Statistic:
    """The weighted mean of units (U,), of `counts` (U,) rows each; of one if None."""
    if counts is None:
        return lambda weights: weights @ sums / weights.sum(1)
    return lambda weights: (weights @ sums) / (weights @ counts)

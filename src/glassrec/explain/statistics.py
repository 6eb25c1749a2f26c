"""Statistics of features and neurons over rows, gathered chunk by chunk in bounded memory.

Random weights of a row follow from its number alone. So a bootstrap streams with the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from math import exp, factorial, nan
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.explain.masking import to_float64

PARTS = 10
"""Random parts of the rows, whose rankings are compared."""


class RunningStatistics:
    """Running statistics of the values of U features or neurons over rows.

    Signed values of different rows cancel, so the ranking is by the mean of |·|; the signed mean
    and the sign cancellation are given with it. Where a neuron has several activations a row,
    statistics are of the last one; `max_abs` alone is over all, and zero only without any effect.

    Intervals are percentiles of a bootstrap over rows: each draw weighs each row by a Poisson count
    that follows from the row's number and the seed. Memory is of order draws · U.

    Args:
        draws: of the bootstrap; 0 leaves the intervals out, as NaN.
        seed: of the draws and of the random parts of the rows.
    """

    COLUMNS = (
        "mean_abs", "mean_abs_low", "mean_abs_high", "max_abs", "mean", "cancellation",
        "zero_share", "negative_share", "positive_share", "rank", "rank_low", "rank_high",
    )  # fmt: skip

    _TENSORS = ("sums", "largest", "weighted", "weights")

    def __init__(self, draws: int = 200, seed: int = 0) -> None:
        self.draws = draws
        self.seed = seed
        self.rows = 0
        # One column until the first rows define U.
        self._sums = torch.zeros(4, 1, dtype=torch.float64)
        self._largest = torch.zeros(1, dtype=torch.float64)
        self._weighted = torch.zeros(draws + PARTS, 1, dtype=torch.float64)
        self._weights = torch.zeros(draws + PARTS, 1, dtype=torch.float64)

    def update(self, values: Tensor, index: Tensor | None = None) -> None:
        """Add the values (C, B, U) of more rows, of C activations a row, of which the last counts
        most.

        `index` (B,) int64 is the number of each row; None counts on from the last.
        """
        self.merge(self.part(values, self.rows, index))

    def part(self, values: Tensor, first: int, index: Tensor | None = None) -> Self:
        """Statistics of these rows alone, of the same draws; `first` is the number of the first."""
        values = to_float64(values)
        last, device, found = values[-1], values.device, type(self)(self.draws, self.seed)
        if index is None:
            weights = _next_weights(first, len(last), self.draws, self.seed, device)
        else:
            weights = _weights(index.to(device), self.draws, self.seed)
        found.rows, size = len(last), last.abs()
        shares = (last == 0).sum(0), (last < 0).sum(0)
        found._sums = torch.stack([size.sum(0), last.sum(0), *shares])
        found._largest = values.abs().amax((0, 1))
        found._weighted, found._weights = weights @ size, weights.sum(1, keepdim=True)
        return found

    def merge(self, other: Self) -> None:
        """Add other rows, which follow those so far."""
        device = other._sums.device
        self._sums = self._sums.to(device) + other._sums
        self._largest = torch.maximum(self._largest.to(device), other._largest)
        self._weighted = self._weighted.to(device) + other._weighted
        self._weights = self._weights.to(device) + other._weights
        self.rows += other.rows

    def frame(self) -> pd.DataFrame:
        """One row for each feature or neuron, with the columns `COLUMNS`.

        mean_abs_low to mean_abs_high and rank_low to rank_high are 95 % intervals; rank 1 has the
        largest mean_abs, and equal ones share the best of their ranks. cancellation is
        1 − |Σ v| / Σ |v|: 0 where all signs agree, 1 where they cancel out. Shares are of rows.
        """
        assert self.rows, "no rows were added"
        size, signed, zeros, negatives = self._sums.cpu()
        kept = torch.where(size > 0, signed.abs() / size.clamp_min(1e-300), 1.0)
        drawn, mean_abs = self.bootstrap(), size.numpy() / self.rows
        columns = [
            mean_abs, *interval(drawn), self._largest.cpu(), signed / self.rows, 1 - kept,
            *(n / self.rows for n in (zeros, negatives, self.rows - zeros - negatives)),
            ranks(mean_abs[None])[0], *interval(ranks(drawn)),
        ]  # fmt: skip
        return pd.DataFrame(dict(zip(self.COLUMNS, map(np.asarray, columns), strict=True)))

    def bootstrap(self) -> np.ndarray:
        """(draws, U): the mean of |·| in each draw of the bootstrap, NaN in one without rows."""
        return self._means()[: self.draws]

    @property
    def stability(self) -> float:
        """Whether other rows would give the same ranking.

        The mean rank correlation (Spearman) of mean_abs between any two of ten random, disjoint
        parts of the rows; NaN where no two parts have a ranking.
        """
        found = self._means()[self.draws :]
        known = pd.DataFrame(found[~np.isnan(found).all(1)].T)
        correlations = known.corr("spearman").to_numpy()
        pairs = correlations[np.triu_indices_from(correlations, 1)]
        return float(pd.Series(pairs).mean())

    def __reduce__(self) -> tuple[Any, ...]:
        return self.from_state, (self.state(),)  # other processes have other devices

    def state(self) -> dict[str, Tensor]:
        """The tensors to continue from later."""
        tensors = {name: getattr(self, f"_{name}").cpu() for name in self._TENSORS}
        return tensors | {"counts": torch.tensor([self.draws, self.seed, self.rows])}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """Statistics that continue from a `state` as if there had been no interruption."""
        draws, seed, rows = state["counts"].tolist()
        found = cls(draws, seed)
        found.rows = rows
        for name in cls._TENSORS:
            setattr(found, f"_{name}", state[name])
        return found

    def _means(self) -> np.ndarray:
        return (self._weighted / self._weights).cpu().numpy()


def ranks(values: np.ndarray) -> np.ndarray:
    """The ranks (R, U) in each row of values: 1 is the largest; equal ones share the best rank."""
    return pd.DataFrame(values).rank(axis=1, ascending=False, method="min").to_numpy()


def interval(drawn: np.ndarray) -> np.ndarray:
    """The ends (2, U) of the middle 95 % of draws (R, U); NaN if all draws are without rows."""
    known = drawn[~np.isnan(drawn).any(1)]
    if not len(known):
        return np.full((2, drawn.shape[1]), nan)
    return np.quantile(known, (0.025, 0.975), axis=0, method="inverted_cdf")


def compare_selections(
    features: Sequence[str], a: RunningStatistics, b: RunningStatistics
) -> pd.DataFrame:
    """Statistics of two selections of rows side by side, the largest difference first.

    Where their rows were added under their numbers in the split, a row of both selections weighs
    the same in each draw of both, so that the interval is that of the difference also where they
    overlap.

    Returns:
        One row for each feature: player (its name), mean_abs and mean and rank of `a`, the same of
            `b`
        with the ending `_against`, difference (of mean_abs, a − b), difference_low, difference_high
        (95 %).
    """
    assert (a.seed, a.draws) == (b.seed, b.draws), "a row weighs the same in both"
    kept = ["mean_abs", "mean", "rank"]
    one, other = a.frame()[kept], b.frame()[kept].add_suffix("_against")
    low, high = interval(a.bootstrap() - b.bootstrap())
    frame = pd.concat([pd.Series(list(features), name="player"), one, other], axis=1).assign(
        difference=one["mean_abs"] - other["mean_abs_against"],
        difference_low=low,
        difference_high=high,
    )
    by_size = frame["difference"].abs().sort_values(ascending=False, kind="stable").index
    return frame.loc[by_size].reset_index(drop=True)


def poisson_weights(rows: Tensor, draws: int, seed: int) -> Tensor:
    """How often each draw of a bootstrap takes each row (B,): Poisson(1) counts, (draws, B)
    float64.

    Counts of rows that are drawn with replacement are nearly independent and Poisson, and these
    need no number of rows (Chamandy et al., "Estimating uncertainty for massive data streams",
    Google, 2012).
    """
    counts = torch.bucketize(_random(rows, draws, seed), _poisson_bounds(rows.device), right=True)
    return counts.T.double()


def part_weights(rows: Tensor, count: int, seed: int) -> Tensor:
    """1 where a row is in a part, else 0: (count, B) float64. Parts are random and disjoint."""
    part = _random(rows, 1, seed)[:, 0] % count
    return (part == torch.arange(count, device=rows.device).unsqueeze(1)).double()


def _weights(index: Tensor, draws: int, seed: int) -> Tensor:
    """(draws + PARTS, B): the weight of each row in each draw, and in each part."""
    return torch.cat([poisson_weights(index, draws, seed), part_weights(index, PARTS, seed)])


@lru_cache(maxsize=1)  # all layers of a model get the same rows
def _next_weights(first: int, count: int, draws: int, seed: int, device: torch.device) -> Tensor:
    return _weights(torch.arange(first, first + count, device=device), draws, seed)


@cache  # copied to a device once
def _poisson_bounds(device: torch.device) -> Tensor:
    """The int32 numbers from which on a uniform one means at least 1, 2, ... events."""
    shares = [exp(-1) / factorial(events) for events in range(12)]
    below = torch.tensor(shares, dtype=torch.float64).cumsum(0)
    return ((below - 0.5) * 2**32).long().clamp_max(2**31 - 1).to(device, torch.int32)


def _random(rows: Tensor, count: int, seed: int) -> Tensor:
    """(B, count) int32, uniform: the SplitMix64 generator (Steele, Lea and Flood, OOPSLA 2014).

    It hashes a counter, so that any row's numbers can be had alone. Every 64 bits make two of them.
    """
    steps = torch.arange(1, (count + 1) // 2 + 1, device=rows.device)
    start = _mix(rows + _mix(torch.full_like(rows, seed) + _STEP)).unsqueeze(1)
    return _mix(start + _STEP * steps).view(torch.int32)[:, :count].contiguous()


def _mix(bits: Tensor) -> Tensor:
    """Each bit of the result depends on all bits; int64 wraps around."""
    bits = (bits ^ _right(bits, 30)) * _FIRST
    bits = (bits ^ _right(bits, 27)) * _SECOND
    return bits ^ _right(bits, 31)


def _right(bits: Tensor, by: int) -> Tensor:
    return (bits >> by) & (2 ** (64 - by) - 1)


# The published constants, as signed numbers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64

"""Statistics of units over rows, gathered chunk by chunk so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import nan
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.explain.game import double
from glassrec.explain.resampling import parts, poisson

PARTS = 10
"""Into how many random parts the rows are divided, to see whether they rank alike."""


class Spread:
    """Running statistics of values of rows: what a ranking of the U units may rest on.

    Signed values of different rows cancel, so units are ranked by the mean of |·|, and the signed
    mean and the cancellation stand beside it. Where a unit emits several times a row, these are of
    the last emission; `max_abs` alone is of all, so that it is zero only for a unit without effect.

    Intervals are percentiles of a bootstrap over rows that streams as the rest does: each draw
    weighs each row by a Poisson count that follows from the row's number and the seed, so that
    results do not depend on how rows are chunked. Memory is of order draws · U.

    Args:
        draws: of the bootstrap; 0 leaves the intervals out, as NaN.
        seed: of the draws and of the random parts of the rows.
    """

    COLUMNS = (
        "mean_abs", "mean_abs_low", "mean_abs_high", "max_abs", "mean", "cancellation",
        "zero_share", "negative_share", "positive_share", "rank", "rank_low", "rank_high",
    )  # fmt: skip

    def __init__(self, draws: int = 200, seed: int = 0) -> None:
        self.draws = draws
        self.seed = seed
        self.rows = 0
        # One column until the first rows say how many units there are.
        self._sums = torch.zeros(4, 1, dtype=torch.float64)
        self._largest = torch.zeros(1, dtype=torch.float64)
        self._weighted = torch.zeros(draws + PARTS, 1, dtype=torch.float64)
        self._weights = torch.zeros(draws + PARTS, 1, dtype=torch.float64)

    def add(self, emissions: Tensor, index: Tensor | None = None) -> None:
        """Take in the values (C, B, U) of more rows, of C emissions a row.

        Args:
            emissions: the values.
            index: (B,) int64, the number of each row; None counts on from the last.
        """
        emissions = double(emissions)
        values, where = emissions[-1], emissions.device
        count = len(values)
        if index is None:
            weights = _next_weights(self.rows, count, self.draws, self.seed, where)
        else:
            weights = _weights(index.to(where), self.draws, self.seed)
        size = values.abs()
        shares = (values == 0).sum(0), (values < 0).sum(0)
        self._sums = self._sums.to(where) + torch.stack([size.sum(0), values.sum(0), *shares])
        self._largest = torch.maximum(self._largest.to(where), emissions.abs().amax((0, 1)))
        self._weighted = self._weighted.to(where) + weights @ size
        self._weights = self._weights.to(where) + weights.sum(1, keepdim=True)
        self.rows += count

    def frame(self) -> pd.DataFrame:
        """One row a unit, with the columns `COLUMNS`.

        mean_abs_low to mean_abs_high and rank_low to rank_high are 95 % intervals; rank 1 has the
        largest mean_abs, and equal ones share the best of their ranks. cancellation is
        1 − |Σ v| / Σ |v|: 0 where all signs agree, 1 where they cancel out. Shares are of rows.
        """
        assert self.rows, "no rows were added"
        size, signed, zeros, negatives = self._sums.cpu()
        kept = torch.where(size > 0, signed.abs() / size.clamp_min(1e-300), 1.0)
        drawn, mean_abs = self.drawn(), size.numpy() / self.rows
        columns = [
            mean_abs, *interval(drawn), self._largest.cpu(), signed / self.rows, 1 - kept,
            *(n / self.rows for n in (zeros, negatives, self.rows - zeros - negatives)),
            ranks(mean_abs[None])[0], *interval(ranks(drawn)),
        ]  # fmt: skip
        return pd.DataFrame(dict(zip(self.COLUMNS, map(np.asarray, columns), strict=True)))

    def drawn(self) -> np.ndarray:
        """(draws, U): the mean of |·| in each draw of the bootstrap, NaN where it took no row."""
        return self._means()[: self.draws]

    @property
    def stability(self) -> float:
        """Whether other rows would rank the units alike.

        The mean rank correlation (Spearman) of mean_abs between any two of ten random, disjoint
        parts of the rows; NaN where no two parts rank anything.
        """
        found = self._means()[self.draws :]
        known = pd.DataFrame(found[~np.isnan(found).all(1)].T)
        correlations = known.corr("spearman").to_numpy()
        pairs = correlations[np.triu_indices_from(correlations, 1)]
        return float(pd.Series(pairs).mean())

    def state(self) -> dict[str, Tensor]:
        """All that is needed to go on later."""
        tensors = {name: getattr(self, f"_{name}").cpu() for name in self._TENSORS}
        return tensors | {"counts": torch.tensor([self.draws, self.seed, self.rows])}

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Self:
        """What `state` gave: adding more rows continues as if there had been no stop."""
        draws, seed, rows = state["counts"].tolist()
        spread = cls(draws, seed)
        spread.rows = rows
        for name in cls._TENSORS:
            setattr(spread, f"_{name}", state[name])
        return spread

    _TENSORS = ("sums", "largest", "weighted", "weights")

    def _means(self) -> np.ndarray:
        """(draws + PARTS, U): the weighted means of |·|; 0/0 is NaN."""
        return (self._weighted / self._weights).cpu().numpy()


def _weights(index: Tensor, draws: int, seed: int) -> Tensor:
    """(draws + PARTS, B): how often each draw, and each part, takes each row."""
    return torch.cat([poisson(index, draws, seed), parts(index, PARTS, seed)])


@lru_cache(maxsize=1)  # each layer of a model takes in the same rows: they are weighed once
def _next_weights(first: int, count: int, draws: int, seed: int, where: torch.device) -> Tensor:
    """The same for `count` rows from the first."""
    return _weights(torch.arange(first, first + count, device=where), draws, seed)


def ranks(values: np.ndarray) -> np.ndarray:
    """The ranks (R, U) of each row's values: 1 is the largest; equal ones share the best rank."""
    return pd.DataFrame(values).rank(axis=1, ascending=False, method="min").to_numpy()


def interval(drawn: np.ndarray) -> np.ndarray:
    """The ends (2, U) of the middle 95 % of the draws (R, U), which are values that were drawn.

    A draw that took no row, NaN, counts for nothing; NaN where there is no draw.
    """
    known = drawn[~np.isnan(drawn).any(1)]
    if not len(known):
        return np.full((2, drawn.shape[1]), nan)
    return np.quantile(known, (0.025, 0.975), axis=0, method="inverted_cdf")

"""Paired t-tests: a difference of two settings for each seed, and Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

SIGNIFICANCE = 0.05


def paired_t(differences: np.ndarray) -> pd.DataFrame:
    """Student's paired t-test of each row of differences (P, N), NaN for a pair without the seed.

    Columns: `n` seeds, the mean `difference` with its 95 % interval `low` to `high`, and the
    two-sided `p`. Of fewer than two seeds these three are NaN. Where all differences are 0, p is 1.
    """
    from scipy.special import stdtr, stdtrit  # without the long import of scipy.stats

    there = ~np.isnan(differences)
    n = there.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(there, differences, 0).sum(1) / n
        squares = np.where(there, differences - mean[:, None], 0) ** 2
        error = np.sqrt(squares.sum(1) / (n - 1) / n)
        reach = stdtrit(np.maximum(n - 1, 1), 0.975) * error
        p = 2 * stdtr(np.maximum(n - 1, 1), -np.abs(mean) / error)
    p[(n > 1) & (mean == 0)] = 1.0
    return pd.DataFrame(
        {"n": n, "difference": mean, "low": mean - reach, "high": mean + reach, "p": p}
    )


def holm(p: np.ndarray) -> np.ndarray:
    """(P,) p values that hold for all pairs together (Holm 1979, "A simple sequentially rejective
    multiple test procedure"); NaN where there was no test, which does not count.
    """
    order = p.argsort()  # NaN is last
    steps = p[order] * ((~np.isnan(p)).sum() - np.arange(len(p)))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps).clip(max=1)
    return adjusted


def statement(test: Mapping[Any, Any]) -> str:
    """The evidence of a test, a row of `paired_t` with `p_holm`, in words."""
    n = int(test["n"])
    if n < 2:
        return f"no interval: {n or 'no'} shared seed{'s' if not n else ''}"
    found = "better" if test["difference"] > 0 else "worse"
    found = found if test["p_holm"] < SIGNIFICANCE else "no difference shown"
    return f"{found}; the interval of two seeds is wide" if n == 2 else found

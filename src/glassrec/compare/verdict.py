"""Whether a setting is better than others beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from glassrec.compare.run_comparison import ComparisonGroup, Setting
from glassrec.metrics.metadata import as_higher_is_better

FAMILY_ERROR = 0.05
"""The probability that any of the intervals of a verdict misses its true difference."""


@dataclass(frozen=True)
class Verdict:
    """Whether the first setting of a group is the best by a metric."""

    unclear: list[Setting]
    """those that it cannot be distinguished from"""
    seeds: int
    """the least number of seeds that it shares with another setting"""

    @property
    def best(self) -> bool:
        """Whether it is better than every other setting."""
        return not self.unclear

    @property
    def evidence(self) -> str:
        """The test behind the verdict."""
        if self.seeds < 2:
            return "no interval: fewer than two seeds that both settings have"
        return f"simultaneous 95 % intervals of differences paired by {self.seeds} seeds"


def verdict(first: Setting, others: Sequence[Setting], metric: str) -> Verdict:
    """Compare a setting with each of the others.

    The interval of a mean difference is Student's t over the seeds that two settings share, which
    have the same split. All intervals hold together with 95 %, by Bonferroni's correction.
    """
    found = [seed_differences(first, other, metric) for other in others]
    unclear = [
        other
        for other, each in zip(others, found, strict=True)
        if not lower_end(each, FAMILY_ERROR / len(others)) > 0
    ]
    return Verdict(unclear, min(map(len, found), default=0))


def seed_differences(first: Setting, other: Setting, metric: str) -> np.ndarray:
    """(n,) how much better `first` is than `other`, a number per seed that both have."""
    pairs = pd.concat([_by_seed(each, metric) for each in (first, other)], axis=1, join="inner")
    return (pairs.iloc[:, 0] - pairs.iloc[:, 1]).dropna().to_numpy(float)


def _by_seed(setting: Setting, metric: str) -> pd.Series:
    """The metric by seed, higher is better; the mean where several runs have one seed."""
    runs = [run for run in setting.runs if run.seed is not None and metric in run.metrics]
    values = pd.Series(
        [as_higher_is_better(metric, run.metrics[metric]) for run in runs],
        [run.seed for run in runs],
        dtype=float,
    )
    return values.groupby(level=0).mean()


def lower_end(values: np.ndarray, error: float) -> float:
    """The lower end of the two-sided interval of a mean; −∞ of fewer than two values."""
    if len(values) < 2:
        return -np.inf
    deviation = values.std(ddof=1) / np.sqrt(len(values))
    from scipy.special import stdtrit  # Student's t, without the long import of scipy.stats

    return float(values.mean() - stdtrit(len(values) - 1, 1 - error / 2) * deviation)


def group_verdict(group: ComparisonGroup) -> Verdict | None:
    """The verdict on the first setting of a group; None where fewer than two are ranked."""
    ranked = [setting for setting in group.settings if group.is_ranked(setting)]
    return verdict(ranked[0], ranked[1:], group.by) if len(ranked) > 1 else None


def superlative(metric: str) -> str:
    """The property of the first value by a metric: highest, lowest, or nearest to 1 or to 0."""
    if metric.rpartition("/")[2] == "bias":
        return "Closest to 0:"
    oriented = as_higher_is_better(metric, 1.0)
    return {1.0: "Highest", -1.0: "Lowest"}.get(oriented, "Closest to 1:")

"""Whether a setting is better than others beyond chance, and which settings matter for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from glassrec.metrics.metadata import as_higher_is_better
from glassrec.prune.levels import EXACT, levels_of
from glassrec.report.statements import t_quantile

if TYPE_CHECKING:
    from glassrec.compare.comparison import Setting, Task

IDLE = ("prune.curves", "prune.chunk", "explain.memory")
"""Settings that change no model and no result."""

PROPOSING = ("explain.task", "explain.baseline", "explain.select", "explain.neurons")
"""Settings of an explanation that an approximate cut follows from."""

DOUBT = 0.05
"""The probability that any of the intervals of a verdict misses its true difference."""


def relevant(settings: Mapping[str, Any], by: str) -> dict[str, Any]:
    """The settings that a comparison by a metric may depend on.

    Args:
        settings: of a run, by dotted names.
        by: the metric. Of how a model is explained, trained quality does not depend, and a pruned
            model's only where its cut is proposed by the explanation.
    """
    level = settings.get("prune.level")
    return {name: value for name, value in settings.items() if _matters(name, level, by)}


def _matters(name: str, level: object, by: str) -> bool:
    if _below(name, IDLE):
        return False
    if _below(name, ("explain",)):
        if by.startswith("explain/"):
            return True
        return by.startswith("pruned/") and level not in EXACT and _below(name, PROPOSING)
    levels = levels_of(name)
    return levels is None or level is None or level in levels


def _below(name: str, parents: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{parent}.") for parent in parents)


@dataclass(frozen=True)
class Verdict:
    """How sure it is that the first setting of a task is the best by a metric."""

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
        """What the verdict rests on."""
        if self.seeds < 2:
            return "an interval needs two seeds that both settings have"
        return f"95 % intervals of differences paired by {self.seeds} seeds, all of them together"


def verdict(first: Setting, others: list[Setting], metric: str) -> Verdict:
    """Compare a setting with each of the others.

    The interval of a mean difference is Student's t over the seeds that two settings share, which
    have the same split. All intervals hold together with 95 %, by Bonferroni's correction.
    """
    found = [differences(first, other, metric) for other in others]
    unclear = [
        other
        for other, each in zip(others, found, strict=True)
        if not lower_end(each, DOUBT / len(others)) > 0
    ]
    return Verdict(unclear, min(map(len, found), default=0))


def differences(first: Setting, other: Setting, metric: str) -> np.ndarray:
    """(n,) what `first` is better by than `other`, a number for each seed that both have."""
    pairs = pd.concat([by_seed(each, metric) for each in (first, other)], axis=1, join="inner")
    return (pairs.iloc[:, 0] - pairs.iloc[:, 1]).dropna().to_numpy(float)


def by_seed(setting: Setting, metric: str) -> pd.Series:
    """The merit of a setting by its seeds; the mean where several runs have one seed."""
    runs = [run for run in setting.runs if run.seed is not None and metric in run.metrics]
    merits = pd.Series(
        [as_higher_is_better(metric, run.metrics[metric]) for run in runs],
        [run.seed for run in runs],
        dtype=float,
    )
    return merits.groupby(level=0).mean()


def lower_end(values: np.ndarray, doubt: float) -> float:
    """The lower end of the two-sided interval of a mean; −∞ of fewer than two values."""
    if len(values) < 2:
        return -np.inf
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - t_quantile(1 - doubt / 2, len(values) - 1) * error)


def of_task(task: Task) -> Verdict | None:
    """The verdict on the first setting of a task; None where fewer than two are ranked."""
    ranked = [setting for setting in task.settings if task.ranked(setting)]
    return verdict(ranked[0], ranked[1:], task.by) if len(ranked) > 1 else None


def superlative(metric: str) -> str:
    """What the first value by a metric is: the highest, the lowest, or the nearest to 1 or to 0."""
    if metric.rpartition("/")[2] == "bias":
        return "Closest to 0:"
    return {1.0: "Highest", -1.0: "Lowest"}.get(as_higher_is_better(metric, 1.0), "Closest to 1:")

"""Whether settings differ beyond chance: paired by seed, and corrected for the number of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from glassrec.compare.run_comparison import ComparisonGroup, Setting
from glassrec.metrics.metadata import as_higher_is_better
from glassrec.metrics.paired import SIGNIFICANCE, holm, paired_t


@dataclass(frozen=True)
class Verdict:
    """Whether the first setting of a group is the best by a metric."""

    differences: pd.DataFrame
    """between it and each of the others; see `paired_differences`"""
    unclear: list[Setting]
    """those that it cannot be distinguished from"""
    pairs: int
    """the number of pairs that p values are corrected for"""

    @property
    def best(self) -> bool:
        """Whether it is better than every other setting."""
        return not self.unclear

    @property
    def seeds(self) -> int:
        """The least number of seeds that it shares with another setting."""
        return int(self.differences["n"].min())

    @property
    def evidence(self) -> str:
        """The test behind the verdict."""
        if self.seeds < 2:
            return "no interval: fewer than two seeds that both settings have"
        wide = "; intervals over 2 seeds are wide" if self.seeds == 2 else ""
        several = f", with Holm's correction for {self.pairs} pairs" if self.pairs > 1 else ""
        return f"t-tests paired by {self.seeds} seeds at the 5 % level{several}{wide}"


def verdict(settings: Sequence[Setting], metric: str) -> Verdict:
    """Compare the first of at least two settings with each of the others."""
    found = paired_differences(settings, metric)
    own = found[found["first"] == 0]
    better = (own["p_holm"] < SIGNIFICANCE) & (own["difference"] > 0)
    unclear = [settings[place] for place in own["other"][~better]]
    return Verdict(own, unclear, int(found["p"].notna().sum()))


def paired_differences(settings: Sequence[Setting], metric: str) -> pd.DataFrame:
    """A row for each pair of settings, `first` before `other` by their places, with its t-test.

    `difference` is how much better the first one is, whichever way the metric is better, over the
    seeds that both have: these have the same split. The other columns are those of `paired_t`, and
    `p_holm`, the p value corrected for all pairs of the settings. Runs of a setting with the same
    seeds count as one, with their mean.
    """
    rows = [
        (place, run.repetition, as_higher_is_better(metric, run.metrics[metric]))
        for place, setting in enumerate(settings)
        for run in setting.runs
        if run.repetition and metric in run.metrics
    ]
    table = pd.DataFrame(rows, columns=["setting", "seeds", "value"]).astype({"value": float})
    by_seeds = table.groupby(["setting", "seeds"])["value"].mean().unstack("seeds")
    values = by_seeds.reindex(range(len(settings))).to_numpy(float)
    first, other = np.triu_indices(len(settings), 1)
    found = paired_t(values[first] - values[other])
    found.insert(0, "first", first)
    found.insert(1, "other", other)
    return found.assign(p_holm=holm(found["p"].to_numpy()))


def group_verdict(group: ComparisonGroup) -> Verdict | None:
    """The verdict on the first setting of a group; None where fewer than two are ranked."""
    ranked = [setting for setting in group.settings if group.is_ranked(setting)]
    return verdict(ranked, group.by) if len(ranked) > 1 else None


def superlative(metric: str) -> str:
    """The property of the first value by a metric: highest, lowest, or nearest to 1 or to 0."""
    if metric.rpartition("/")[2] == "bias":
        return "Closest to 0:"
    oriented = as_higher_is_better(metric, 1.0)
    return {1.0: "Highest", -1.0: "Lowest"}.get(oriented, "Closest to 1:")

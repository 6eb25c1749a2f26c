"""Tables of the explanations of a group: importance, agreement, zero attributions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import isfinite, isnan, nan

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from glassrec.artifacts.file_list import IMPORTANCE, NEURONS
from glassrec.compare.page_tables import PageHead, PageRow, PageTable, SettingView, number
from glassrec.compare.run_comparison import MAX_DETAILED, ComparisonGroup, limited
from glassrec.report.formatting import Formatter, fixed, percent, sentence, shorten
from glassrec.report.run_record import RunRecord
from glassrec.report.statements import SIGNIFICANCE
from glassrec.report.style import SEQUENTIAL
from glassrec.spelling import counted, listed

MAX_FEATURES = 14
"""Features that have a column of their own; the rest are one together."""

MIN_AGREEMENT = 5
"""Features from which an agreement is shown: two correlate at 1 or −1 whatever the models do."""

MAX_AGREEMENT = 15
"""Settings whose agreement is shown, so that the table still fits on paper."""


@dataclass(frozen=True, eq=False)
class ExplanationAgreement:
    """Runs of a group that explain the same features, the best setting first."""

    runs: list[RunRecord]
    setting: list[int]
    """the place of each run's setting in its group"""
    importance: pd.DataFrame
    """a row per feature, the most important one first, and a column per run: the mean of
    |attribution| as a share of the run's sum"""
    significant: pd.DataFrame
    """the same rows and columns: whether the effect is significant"""

    @property
    def by_setting(self) -> pd.DataFrame:
        """As `importance`, the mean over the runs of each setting; columns are their places."""
        return self.importance.T.groupby(np.array(self.setting)).mean().T

    @property
    def significant_in_all(self) -> pd.DataFrame:
        """As `by_setting`: whether an effect is significant in every run of the setting."""
        return self.significant.T.groupby(np.array(self.setting)).all().T

    @cached_property
    def correlation(self) -> np.ndarray:
        """(R, R), Spearman's rank correlation of the importance of any two runs.

        NaN where all features of a run are equally important.
        """
        return self.importance.rank().corr().to_numpy()

    def mean_correlation(self, *, same_setting: bool) -> float:
        """The mean over pairs of runs of one setting, or of different ones; NaN without a pair."""
        place = np.array(self.setting)
        first, second = np.triu_indices(len(place), 1)
        pairs = (place[first] == place[second]) == same_setting
        found = self.correlation[first, second][pairs]
        found = found[~np.isnan(found)]
        return float(found.mean()) if len(found) else nan


def explanation_agreements(group: ComparisonGroup) -> list[ExplanationAgreement]:
    """The runs of a group's first settings, by the features that they share; most runs first.

    Runs whose explanation is not trusted, or without any effect, are left out.
    """
    alike: dict[frozenset[str], list[tuple[int, RunRecord, pd.DataFrame]]] = {}
    for place, setting in enumerate(group.settings[:MAX_DETAILED]):
        for run in setting.runs:
            table = run.table(IMPORTANCE)
            if table is not None and run.trusted and table["mean_abs"].sum() > 0:
                table = table if "q_value" in table else table.assign(q_value=nan)
                alike.setdefault(frozenset(table["player"]), []).append((place, run, table))
    found = []
    for same in alike.values():
        long = pd.concat([table for _, _, table in same], keys=range(len(same)), names=["run", ""])
        by_run = long.groupby(["player", "run"])
        sizes = by_run["mean_abs"].sum().unstack()
        share = sizes / sizes.sum()
        clear = (by_run["q_value"].min() < SIGNIFICANCE).unstack()
        order = share.T.mean().sort_values(ascending=False, kind="stable").index
        places, runs = [place for place, _, _ in same], [run for _, run, _ in same]
        found.append(ExplanationAgreement(runs, places, share.loc[order], clear.loc[order]))
    return sorted(found, key=lambda agreement: -len(agreement.runs))


def explanations(group: ComparisonGroup, best: Sequence[SettingView]) -> Iterator[PageTable]:
    """Importance by setting, agreement, and neurons with zero attribution, as far as known."""
    found = explanation_agreements(group)
    if found:
        yield _importance_table(group, found, best)
        yield from _agreement_table(group, found[0], best)
    zero = zero_attribution(best)
    if not zero.empty:
        largest = zero.max().sort_values(ascending=False)
        finding = (
            f"Most in {largest.index[0]}: up to {percent(largest.iloc[0])} of its neurons."
            if largest.iloc[0]
            else "Every neuron has an attribution on some row."
        )
        note = (
            "In %: neurons of each layer without attribution on any explained row. They are "
            f"candidates; the certificate shows which of them are removable.{limited(group)}"
        )
        yield heat_table("Where do neurons have zero attribution?", finding, note, best, zero)


def _importance_table(
    group: ComparisonGroup, found: Sequence[ExplanationAgreement], best: Sequence[SettingView]
) -> PageTable:
    shares = found[0].by_setting.T.rename(index=lambda place: best[place].key)
    clear = found[0].significant_in_all.T.rename(index=lambda place: best[place].key)
    other = sum(len(each.runs) for each in found[1:])
    others = f" {counted(other, 'run')} with other inputs left out." if other else ""
    doubtful = sum(not run.trusted for each in best for run in each.runs)
    untrusted = f" {counted(doubtful, 'explanation')} not trusted and left out." if doubtful else ""
    note = (
        "In %: the mean |attribution| of each input as a share of their sum, mean over seeds. "
        f"Significant: q < {SIGNIFICANCE} in every run.{others}{untrusted}{limited(group)}"
    )
    return heat_table("Do the models rely on the same inputs?", importance_finding(shares, clear),
                      note, best, main_features(shares))  # fmt: skip


def _agreement_table(
    group: ComparisonGroup, found: ExplanationAgreement, best: Sequence[SettingView]
) -> Iterator[PageTable]:
    frame = agreement_by_setting(found, best)
    if frame.isna().to_numpy().all() or len(found.importance) < MIN_AGREEMENT:
        return
    note = (
        "Spearman’s rank correlation of the importance of "
        f"{counted(len(found.importance), 'input')}, mean over pairs of runs. On the diagonal: "
        "two runs of one setting."
        f"{limited(group, MAX_AGREEMENT, len({*found.setting}))}"
    )
    means = {
        "two runs of one setting": found.mean_correlation(same_setting=True),
        "two settings": found.mean_correlation(same_setting=False),
    }
    pairs = [f"{name} agree at {fixed(v, 2)}" for name, v in means.items() if isfinite(v)]
    finding = sentence(f"{', '.join(pairs)} on average (1: the same order of features)")
    yield heat_table("Do the explanations agree?", finding, note, best, frame,
                     partial(fixed, decimals=2), darkest=1.0)  # fmt: skip


def heat_table(
    heading: str, finding: str, note: str, views: Sequence[SettingView], frame: pd.DataFrame,
    form: Formatter = lambda share: fixed(100 * share, 1), darkest: float | None = None,
) -> PageTable:  # fmt: skip
    """A table whose colours start at 0, with a row per setting of `frame`, which names them by key.

    NaN stands for what is not known. Numbers are percentages unless another formatter is given; the
    darkest colour is that of the largest value, or of `darkest`.
    """
    there = [each for each in views if each.key in frame.index]
    values = frame.loc[[each.key for each in there]].to_numpy(dtype=float)
    high = (float(np.nanmax(values)) if darkest is None else darkest) or 1.0
    rows = []
    for each, line in zip(there, values.tolist(), strict=True):
        cells = []
        for value in line:
            share = min(1.0, max(0.0, value / high)) if isfinite(value) else nan
            cell = number(value, form, "number dark" if share > 0.42 else "number")
            cells.append(replace(cell, colour="" if isnan(share) else to_hex(SEQUENTIAL(share))))
        rows.append(PageRow(cells, each))
    heads = [PageHead(shorten(str(name), 24), "descending", str(name)) for name in frame]
    return PageTable(heading, finding, heads, rows, note, "heat")


def main_features(shares: pd.DataFrame) -> pd.DataFrame:
    """Of shares (settings, features), the largest on average, and the others as one."""
    order = shares.mean().sort_values(ascending=False, kind="stable").index
    kept, rest = order[:MAX_FEATURES], order[MAX_FEATURES:]
    if len(rest) < 2:
        return shares[order]
    together = shares[rest].sum(axis=1, min_count=1).rename(f"the other {len(rest)}")
    return pd.concat([shares[kept], together], axis=1)


def agreement_by_setting(found: ExplanationAgreement, views: Sequence[SettingView]) -> pd.DataFrame:
    """(settings, settings) the mean correlation of two runs, one of each; NaN without a pair."""
    pairs = found.correlation.copy()
    np.fill_diagonal(pairs, nan)  # a run agrees with itself
    frame = pd.DataFrame(pairs).groupby(np.array(found.setting)).mean()
    both = frame.T.groupby(np.array(found.setting)).mean().iloc[:MAX_AGREEMENT, :MAX_AGREEMENT]
    settings = [views[place] for place in both.index.tolist()]
    named = both.set_axis([each.label for each in settings], axis=1)
    return named.set_axis([each.key for each in settings], axis=0)


def zero_attribution(views: Sequence[SettingView]) -> pd.DataFrame:
    """(settings, layers) the share of neurons without any effect on the explained rows."""
    found = {}
    for each in views:
        tables = [table for run in each.runs if (table := run.table(NEURONS)) is not None]
        if tables and len(neurons := pd.concat(tables)):
            zero = neurons["max_abs"] == 0
            found[each.key] = zero.groupby(neurons["layer"], sort=False).mean()
    return pd.DataFrame(found).T


def importance_finding(shares: pd.DataFrame, significant: pd.DataFrame) -> str:
    """The largest significant feature, and in how many settings; (settings, features) both."""
    known = shares.dropna(how="all")
    clear = known.where(significant.reindex_like(known)).dropna(how="all")
    without = len(known) - len(clear)
    if not len(clear):
        return "No setting has a significant input."
    first = clear.idxmax(axis=1).value_counts()
    everywhere = f" in all {len(known)} settings" if len(known) > 1 else ""
    if len(first) == 1 and not without:
        return f"{first.index[0]} is the largest significant input{everywhere}."
    parts = [f"{name} in {count}" for name, count in first.head(3).items()]
    none = f"; in {without} none is significant" if without else ""
    return f"The largest significant input is {listed(parts)} of {len(known)} settings{none}."

"""What the explanations of a task's best settings say, in tables whose colours tell the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import isfinite, nan

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from glassrec.compare.comparison import Task
from glassrec.compare.explanations import Agreement, agreements
from glassrec.compare.page_table import Cell, Head, Row, Table
from glassrec.compare.settings_table import limited
from glassrec.compare.shown import Shown
from glassrec.report.formatting import DASH, fixed, percent, shorten
from glassrec.report.statements import SIGNIFICANCE
from glassrec.report.style import SEQUENTIAL
from glassrec.spelling import counted, listed

FEATURES = 14
"""Features that have a column of their own; the rest are one together."""

TOGETHER = 15
"""Settings that are held against each other, so that a table still fits on paper."""


def explained(task: Task, best: Sequence[Shown]) -> Iterator[Table]:
    """The tables that there is something to tell in, of the settings that are read."""
    found = agreements(task)
    if found:
        yield _inputs(task, found, best)
        yield from _agreement(task, found[0], best)
    silence = silent(best)
    if not silence.empty:
        rests = (
            "In %: units of each layer that moved no explained prediction: candidates, of which "
            f"the certificate then tells what is proven on all rows.{limited(task)}"
        )
        yield heat("Where are units silent?", of_silence(silence), rests, best, silence)


def _inputs(task: Task, found: Sequence[Agreement], best: Sequence[Shown]) -> Table:
    shares = found[0].by_setting.T.rename(index=lambda place: best[place].key)
    left_out = sum(len(other.runs) for other in found[1:])
    others = f" {counted(left_out, 'run')} with other inputs left out." if left_out else ""
    doubtful = sum(not run.trusted for each in best for run in each.runs)
    untrusted = f" {counted(doubtful, 'explanation')} not trusted and left out." if doubtful else ""
    rests = (
        "In %: the mean |attribution| of each input as a share of their sum, mean over seeds. "
        f"Significant: q < {SIGNIFICANCE} in every run.{others}{untrusted}{limited(task)}"
    )
    moving = found[0].moving.T.rename(index=lambda place: best[place].key)
    return heat("Do the models rely on the same inputs?", of_importance(shares, moving), rests,
                best, main_features(shares))  # fmt: skip


def _agreement(task: Task, found: Agreement, best: Sequence[Shown]) -> Iterator[Table]:
    """Nothing where no two runs can be held against each other."""
    together = agreement(found, best)
    if together.isna().to_numpy().all():
        return
    inputs = counted(len(found.importance), "input")
    rests = (
        f"Spearman’s rank correlation of the importance of {inputs}, mean over pairs of runs. On "
        "the diagonal: two runs of one setting."
    )
    if len({*found.setting}) > TOGETHER:
        rests += f" The first {TOGETHER} of {len(task.settings)} settings."
    finding = of_agreement(found.between_seeds, found.between_settings)
    yield heat("Do the explanations agree?", finding, rests, best, together,
               partial(fixed, decimals=2), darkest=1.0)  # fmt: skip


def heat(
    heading: str, finding: str, rests: str, shown: Sequence[Shown], frame: pd.DataFrame,
    written: Callable[[float], str] = lambda share: fixed(100 * share, 1),
    darkest: float | None = None,
) -> Table:  # fmt: skip
    """The table of a frame, whose colours start at 0.

    Args:
        heading: the question.
        finding: the answer, in a sentence.
        rests: what the numbers are.
        shown: the settings that may have a row, in its order.
        frame: a row a setting, by its key; NaN where nothing is known.
        written: how a number is told; by default as a percentage whose sign the caption has.
        darkest: the value of the darkest colour; the largest by default.
    """
    there = [each for each in shown if each.key in frame.index]
    values = frame.loc[[each.key for each in there]].to_numpy(dtype=float)
    high = (float(np.nanmax(values)) if darkest is None else darkest) or 1.0
    rows = [
        Row([_cell(value, value / high, written) for value in line], each)
        for each, line in zip(there, values.tolist(), strict=True)
    ]
    heads = [Head(shorten(str(name), 24), "descending", str(name)) for name in frame]
    return Table(heading, finding, heads, rows, rests, "heat")


def _cell(value: float, share: float, written: Callable[[float], str]) -> Cell:
    if not isfinite(value):
        return Cell(DASH, kind="number")
    share = min(1.0, max(0.0, share))
    kind = "number dark" if share > 0.42 else "number"
    return Cell(written(value), value, kind, to_hex(SEQUENTIAL(share)))


def main_features(shares: pd.DataFrame) -> pd.DataFrame:
    """Of shares (settings, features), the largest on average, and the others as one."""
    order = shares.mean().sort_values(ascending=False, kind="stable").index
    kept, rest = order[:FEATURES], order[FEATURES:]
    if len(rest) < 2:
        return shares[order]
    together = shares[rest].sum(axis=1, min_count=1).rename(f"the other {len(rest)}")
    return pd.concat([shares[kept], together], axis=1)


def agreement(found: Agreement, shown: Sequence[Shown]) -> pd.DataFrame:
    """(settings, settings) the mean correlation of two runs, one of each; NaN without a pair."""
    pairs = found.correlation.copy()
    np.fill_diagonal(pairs, nan)  # a run agrees with itself
    frame = pd.DataFrame(pairs).groupby(np.array(found.setting)).mean()
    both = frame.T.groupby(np.array(found.setting)).mean().iloc[:TOGETHER, :TOGETHER]
    settings = [shown[place] for place in both.index.tolist()]
    named = both.set_axis([each.label for each in settings], axis=1)
    return named.set_axis([each.key for each in settings], axis=0)


def silent(shown: Sequence[Shown]) -> pd.DataFrame:
    """(settings, layers) the share of units without any effect on the explained rows."""
    found = {}
    for each in shown:
        tables = [run.neurons for run in each.runs if run.neurons is not None]
        if tables and len(units := pd.concat(tables)):
            found[each.key] = (units["max_abs"] == 0).groupby(units["layer"], sort=False).mean()
    return pd.DataFrame(found).T


def of_importance(shares: pd.DataFrame, moving: pd.DataFrame) -> str:
    """Which significant feature is first, and for how many; (settings, features) both."""
    known = shares.dropna(how="all")
    clear = known.where(moving.reindex_like(known)).dropna(how="all")
    without = len(known) - len(clear)
    if not len(clear):
        return "In no setting has an input been distinguished from chance."
    first = clear.idxmax(axis=1).value_counts()
    of = f" in all {len(known)} settings" if len(known) > 1 else ""
    if len(first) == 1 and not without:
        return f"{first.index[0]} is the largest significant input{of}."
    parts = [f"{name} in {count}" for name, count in first.head(3).items()]
    none = f"; in {without} none is significant" if without else ""
    return f"The largest significant input is {listed(parts)} of {len(known)} settings{none}."


def of_agreement(within: float, between: float) -> str:
    """Whether seeds agree more than models do."""
    pairs = (("two runs of one setting", within), ("two settings", between))
    told = [f"{who} agree at {fixed(value, 2)}" for who, value in pairs if isfinite(value)]
    text = ", ".join(told)
    return f"{text[:1].upper()}{text[1:]} on average (1: the same order of features)."


def of_silence(frame: pd.DataFrame) -> str:
    """Where units are silent."""
    worst = frame.max().sort_values(ascending=False)
    if not worst.iloc[0]:
        return "Every unit does something on some row."
    return f"Most in {worst.index[0]}: up to {percent(worst.iloc[0])} of its units."

"""Tables of which the colours tell the numbers, a row a setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from glassrec.compare.explanations import Agreement
from glassrec.compare.shown import Shown
from glassrec.report.page import DASH, fixed
from glassrec.report.style import UP

FEATURES = 14
"""Features that have a column of their own; the rest are one together."""

TOGETHER = 15
"""Settings that are held against each other, so that a table still fits on paper."""


@dataclass(frozen=True)
class Cell:
    """A number of a table, and how it looks."""

    text: str
    value: str = ""
    colour: str = ""
    kind: str = "number"


@dataclass(frozen=True)
class Row:
    """The cells of a setting."""

    of: Shown
    cells: list[Cell]


@dataclass(frozen=True)
class Heat:
    """A table, the question that it answers, the answer, and what that rests on."""

    heading: str
    finding: str
    rests: str
    columns: list[str]
    rows: list[Row]


def table(
    heading: str, finding: str, rests: str, shown: Sequence[Shown], frame: pd.DataFrame,
    written: Callable[[float], str] | None = None, ends: tuple[float, float] = (0, nan),
) -> Heat:  # fmt: skip
    """The table of a frame.

    Args:
        heading: the question.
        finding: the answer, in a sentence.
        rests: what the numbers are.
        shown: the settings that may have a row, in its order.
        frame: a row a setting, by its key; NaN where nothing is known.
        written: how a number is told; as a percentage by default.
        ends: the values of the palest and the darkest colour; NaN is the largest.
    """
    there = [each for each in shown if each.key in frame.index]
    values = frame.loc[[each.key for each in there]].to_numpy(dtype=float)
    low, high = ends[0], ends[1] if isfinite(ends[1]) else float(np.nanmax(values))
    written = written or hundredths
    span = (high - low) or 1
    rows = [
        Row(each, [_cell(value, (value - low) / span, written) for value in line])
        for each, line in zip(there, values.tolist(), strict=True)
    ]
    return Heat(heading, finding, rests, [str(name) for name in frame.columns], rows)


def _cell(value: float, share: float, written: Callable[[float], str]) -> Cell:
    if not isfinite(value):
        return Cell(DASH)
    share = min(1.0, max(0.0, share))
    dark = "number dark" if share > 0.42 else "number"
    return Cell(written(value), f"{value:.6g}", to_hex(UP(share)), dark)


def hundredths(share: float) -> str:
    """A percentage without its sign, which the caption has."""
    return fixed(100 * share, 1)


def correlation(value: float) -> str:
    """`.97`: between −1 and 1, two places say all."""
    return fixed(value, 2)


def main_features(shares: pd.DataFrame) -> pd.DataFrame:
    """Of shares (settings, features), the largest on average, and the others as one."""
    order = shares.mean().sort_values(ascending=False, kind="stable").index
    kept, rest = order[:FEATURES], order[FEATURES:]
    found = shares[kept]
    if len(rest) > 1:
        return found.assign(**{f"the other {len(rest)}": shares[rest].sum(axis=1, min_count=1)})
    return shares[order]


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
    found = {each.key: _silent(each) for each in shown}
    frame = pd.DataFrame({key: shares for key, shares in found.items() if len(shares)})
    return frame.T


def _silent(each: Shown) -> pd.Series:
    tables = [run.neurons for run in each.runs if run.neurons is not None]
    if not tables:
        return pd.Series(dtype=float)
    units = pd.concat(tables)
    return (units["max_abs"] == 0).groupby(units["layer"], sort=False).mean()

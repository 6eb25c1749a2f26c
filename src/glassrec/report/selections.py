"""The pictures of choices of rows and inputs: two selections side by side, and whole kinds gone."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from glassrec.artifacts import Explanation
from glassrec.report.style import (
    INK,
    LARGE,
    REST,
    SMALL,
    drawn,
    heading,
    minus,
    short,
    subtitle,
    without_method,
)

SHOWN = 25
"""Players that are compared."""


@drawn
def selections(comparison: pd.DataFrame, about: Explanation, against: Explanation) -> Figure:
    """How the same explanation differs between two selections of rows.

    Args:
        comparison: one row a player: player; mean_abs, mean and rank, the same for the other
            selection with the ending _against; and the difference of mean_abs with its interval,
            difference_low and difference_high.
        about: what was explained and how.
        against: the same of the other selection.
    """
    largest = comparison[["mean_abs", "mean_abs_against"]].max(axis=1)
    shown = comparison.loc[largest.sort_values(ascending=False, kind="stable").index[:SHOWN]]
    figure = Figure(figsize=(12, 1.6 + 0.24 * len(shown)), layout="constrained")
    size, signed, difference = figure.subplots(1, 3, sharey=True, width_ratios=[3, 3, 2])
    _dumbbells(size, shown["mean_abs"], shown["mean_abs_against"])
    size.set_xlabel("mean |attribution|")
    _dumbbells(signed, shown["mean"], shown["mean_against"])
    signed.axvline(0, color=INK, lw=0.8)
    signed.set_xlabel("signed mean")
    _differences(difference, shown)
    size.set_yticks(
        range(len(shown)),
        map(_with_ranks, shown["player"], shown["rank"], shown["rank_against"]),
    )
    size.set_ylim(len(shown) - 0.4, -0.6)
    names = [f"{each.selection} (N = {each.rows:,})" for each in (about, against)]
    figure.legend(size.collections[1:], names, loc="outside lower left", ncols=1)
    heading(
        figure,
        "Are other rows explained by other inputs?",
        subtitle(about)[0],
        "blue: " + "; ".join(subtitle(about)[1:]),
        "orange: " + "; ".join(subtitle(against)[1:]),
        f"{len(shown)} of {len(comparison):,} inputs, each with its ranks in the two",
    )
    return figure


def _dumbbells(axes: Axes, first: pd.Series, second: pd.Series) -> None:
    """Two dots a line, with what lies between them."""
    places = np.arange(len(first))
    axes.hlines(places, first, second, color=REST, lw=2.5)
    axes.scatter(first, places, s=32, color=LARGE, zorder=3)
    axes.scatter(second, places, s=32, color=SMALL, marker="D", zorder=3)


def _differences(axes: Axes, shown: pd.DataFrame) -> None:
    """The difference with its interval, in the colour of the larger, or of neither if unclear."""
    places = np.arange(len(shown))
    middle = shown["difference"].to_numpy(float)
    low, high = (shown[f"difference_{end}"].to_numpy(float) for end in ("low", "high"))
    colours = np.select([low > 0, high < 0], [LARGE, SMALL], REST)
    axes.barh(places, middle, 0.7, color=colours)
    interval = np.clip([middle - low, high - middle], 0, None)
    axes.errorbar(middle, places, xerr=interval, fmt="none", ecolor=INK, elinewidth=1.2)
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_xlabel(
        "blue − orange of mean |attribution|\nwith its 95 % interval; grey: may be none"
    )


def _with_ranks(name: str, first: float, second: float) -> str:
    """`C14  1 → 3`."""
    ranks = ["–" if np.isnan(rank) else f"{rank:.0f}" for rank in (first, second)]
    return f"{short(name)}  {ranks[0]} → {ranks[1]}"


@drawn
def removals(shares: pd.DataFrame, rows: int, about: Explanation) -> Figure:
    """The share of rows still predicted positive when all inputs of a kind are gone.

    Args:
        shares: removed (dense, fields or history), replacement (baseline or data row),
            positive_before, positive_after, mean_logit_before and mean_logit_after.
        rows: how many of the explained rows were taken.
        about: what was explained; its method is of no matter here.
    """
    figure = Figure(figsize=(9, 1.2 + 0.34 * len(shares)), layout="constrained")
    positive, logit = figure.subplots(1, 2, sharey=True)
    before = shares.iloc[0]
    _removal_bars(positive, before["positive_before"], shares["positive_after"], "{:.1%}")
    positive.set_xlim(0, 1.15)
    positive.xaxis.set_major_formatter(PercentFormatter(1))
    positive.set_xlabel("rows predicted positive (logit above 0)")
    _removal_bars(logit, before["mean_logit_before"], shares["mean_logit_after"], "{:.2f}")
    logit.margins(x=0.2)
    logit.xaxis.set_major_locator(MaxNLocator(5))
    logit.set_xlabel("mean logit")
    gone = shares["removed"].map(KINDS) + " " + shares["replacement"].map(REPLACEMENTS)
    positive.set_yticks(range(len(shares) + 1), ["all as they are", *gone])
    positive.set_ylim(len(shares) + 0.6, -0.6)
    heading(
        figure,
        "What is left of the predictions without a whole kind of inputs?",
        *without_method(about, rows),
    )
    return figure


KINDS = {"dense": "all dense columns", "fields": "all fields", "history": "the history"}
REPLACEMENTS = {"baseline": "at the baseline", "data row": "of another row"}
"""How kinds of inputs, and what takes their place, are called."""


def _removal_bars(axes: Axes, before: float, after: pd.Series, form: str) -> None:
    """What was, and below it what is left, each with its number."""
    values = [before, *after]
    bars = axes.barh(range(len(values)), values, 0.7, color=[LARGE, *[SMALL] * len(after)])
    axes.bar_label(bars, [minus(form.format(value)) for value in values], fontsize=8.5, padding=3)
    axes.axvline(0, color=INK, lw=0.8)

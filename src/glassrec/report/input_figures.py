"""Figures of inputs: importance, interactions, two selections of rows, and removals."""

from __future__ import annotations

from math import floor, log10

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from glassrec.artifacts import Explanation
from glassrec.report.formatting import DASH, feature_name, shorten
from glassrec.report.primitives import (
    MAX_WRITTEN,
    colour_bar,
    error_bars,
    heat_map,
    horizontal_bars,
    label_rows,
    triangle,
    zero_line,
)
from glassrec.report.statements import SIGNIFICANCE, significant_rows, with_effect, without_effect
from glassrec.report.style import (
    GREY,
    INK,
    LARGE,
    PALE,
    REST,
    SEQUENTIAL,
    SEQUENTIAL_SMALL,
    SMALL,
    figure,
    sample_subtitle,
    set_title,
    subtitle,
)

MAX_BARS, MAX_COMPARED, MAX_PAIRED = 40, 25, 30
"""Features that have a bar, are compared on two selections, or are in the triangle of pairs."""

REMOVED = {"dense": "all dense columns", "fields": "all fields", "history": "the history"}
REPLACEMENTS = {"baseline": "at the baseline", "data row": "of another row"}


@figure
def feature_importance(importance: pd.DataFrame, about: Explanation) -> Figure:
    """The mean |attribution| of each input that has one, with its interval, the largest first.

    `importance` has a row per feature: player, mean_abs, mean_abs_low, mean_abs_high, mean and,
    where chance was tested, q_value; some of them have an effect.
    """
    moving = with_effect(importance)
    shown = moving.head(MAX_BARS)
    drawing = Figure(figsize=(7.5, 1.0 + 0.22 * len(shown)), layout="constrained")
    axes = drawing.subplots()
    importance_bars(drawing, axes, shown["player"], shown)
    axes.set_xlabel("attribution to the logit")
    left_out = len(moving) - len(shown)
    more = f"the {left_out:,} least important of {len(moving):,} are not shown"
    set_title(
        drawing, "Which inputs move the prediction?", *subtitle(about),
        more if left_out else "", without_effect(importance, about),
    )  # fmt: skip
    return drawing


def importance_bars(
    drawing: Figure, axes: Axes, names: pd.Series, statistics: pd.DataFrame
) -> None:
    """A bar of mean_abs per name with its interval, a mark at the mean, and the legend below."""
    size = statistics["mean_abs"].to_numpy(float)
    places, clear = np.arange(len(size)), significant_rows(statistics)
    for rows, colour, label in (
        (clear, LARGE, "mean |·| over rows, so that signs do not cancel"),
        (~clear, PALE, f"the same, but not significant (q ≥ {SIGNIFICANCE})"),
    ):
        if rows.any():  # an empty bar would have a legend entry in a colour of its own
            axes.barh(places[rows], size[rows], 0.7, color=colour, label=label)
    ends = statistics["mean_abs_low"], statistics["mean_abs_high"]
    error_bars(axes, size, places, ends, "its 95 % interval (bootstrap)")
    axes.plot(
        statistics["mean"], places, "D", color=SMALL, mec=INK, mew=0.5, ms=4.5, label="signed mean"
    )
    zero_line(axes)
    label_rows(axes, names)
    for place in np.flatnonzero(~clear):
        axes.get_yticklabels()[place].set_color(GREY)
    handles, _ = axes.get_legend_handles_labels()
    bars_first = sorted(handles, key=lambda handle: isinstance(handle, Line2D))
    drawing.legend(handles=bars_first, loc="outside lower left", ncols=2)


@figure
def feature_pairs(pairs: pd.DataFrame, rows: int, about: Explanation) -> Figure:
    """The interaction of every two features, beside the strength of the pair in the weights.

    `pairs` has first, second and mean_abs of each pair, and weight_norm where the model has one,
    measured on `rows` rows.
    """
    both = pd.concat([pairs.set_index(end)["mean_abs"] for end in ("first", "second")])
    strength = both.groupby(level=0, sort=False).sum().sort_values(ascending=False, kind="stable")
    shown = list(strength.index[:MAX_PAIRED])
    labels = [shorten(feature_name(name)) for name in shown]
    panels = {
        "mean_abs": ("In the predictions\nmean |interaction| of the logit", SEQUENTIAL, 0.45),
        "weight_norm": (
            "In the weights alone\nnorm of the pair's kernel blocks", SEQUENTIAL_SMALL, 0.7,
        ),
    }  # fmt: skip
    columns = [column for column in panels if column in pairs]
    cells = (0.48 if len(shown) <= MAX_WRITTEN else 0.22) * len(shown)
    side = max(1.8 + cells, 6.5 / len(columns))
    drawing = Figure(figsize=(side * len(columns), side), layout="constrained")
    for axes, column in zip(
        drawing.subplots(1, len(columns), squeeze=False).flatten(), columns, strict=True
    ):
        title, colours, white_above = panels[column]
        names = list(zip(pairs["first"], pairs["second"], strict=True))
        values = triangle(names, pairs[column], shown)[1:, :-1]
        largest = float(np.nanmax(values)) or 1.0
        image = heat_map(
            axes, values, colours, Normalize(0, largest), size=9, background=None,
            rows=labels[1:], columns=labels[:-1],
            format_cell=_two_digits(largest) if len(values) < MAX_WRITTEN else None,
            white=lambda value, limit=white_above * largest: value > limit,  # type: ignore[misc]
        )  # fmt: skip
        axes.set_title(title)
        corner = axes.inset_axes((0.93, 0.56, 0.03, 0.42))  # the triangle leaves it free
        colour_bar(drawing, image, cax=corner, ticks=MaxNLocator(4))
        corner.tick_params(
            length=0, labelsize=8, left=True, labelleft=True, right=False, labelright=False
        )
    left_out = len(strength) - len(shown)
    set_title(
        drawing,
        "Which features interact?",
        "the effect of two features together beyond the sum of their own: "
        "f(x) − f(x without i) − f(x without j) + f(x without both)",
        *sample_subtitle(about, rows),
        f"the {left_out:,} that interact least are not shown" if left_out else "",
    )
    return drawing


def _two_digits(largest: float):  # type: ignore[no-untyped-def]
    decimals = max(0, 1 - floor(log10(largest)))
    return lambda value: "" if np.isnan(value) else f"{value:.{decimals}f}"


@figure
def selections(comparison: pd.DataFrame, about: Explanation, against: Explanation) -> Figure:
    """The same explanation on two selections of rows, `about` and `against`.

    `comparison` has a row per feature: player; mean_abs, mean and rank, the same for the reference
    selection with the ending _against; and the difference of mean_abs with its interval,
    difference_low and difference_high.
    """
    largest = comparison[["mean_abs", "mean_abs_against"]].max(axis=1)
    order = largest.sort_values(ascending=False, kind="stable").index[:MAX_COMPARED]
    shown = comparison.loc[order]
    drawing = Figure(figsize=(12, 1.6 + 0.24 * len(shown)), layout="constrained")
    size, signed, difference = drawing.subplots(1, 3, sharey=True, width_ratios=[3, 3, 2])
    _dumbbells(size, shown["mean_abs"], shown["mean_abs_against"])
    size.set_xlabel("mean |attribution|")
    _dumbbells(signed, shown["mean"], shown["mean_against"])
    zero_line(signed)
    signed.set_xlabel("signed mean")
    low, high = (shown[f"difference_{end}"].to_numpy(float) for end in ("low", "high"))
    colours = np.select([low > 0, high < 0], [LARGE, SMALL], REST)
    horizontal_bars(difference, shown["difference"], color=colours, intervals=(low, high))
    zero_line(difference)
    difference.set_xlabel(
        "blue − orange of mean |attribution|\nwith its 95 % interval; grey: not significant"
    )
    names = zip(shown["player"], shown["rank"], shown["rank_against"], strict=True)
    label_rows(size, [_with_ranks(*each) for each in names], letters=60)
    legend = [f"{each.selection} (N = {each.rows:,})" for each in (about, against)]
    drawing.legend(size.collections[1:], legend, loc="outside lower left", ncols=1)
    set_title(
        drawing,
        "Do two selections of rows depend on different inputs?",
        subtitle(about)[0],
        "blue: " + "; ".join(subtitle(about)[1:]),
        "orange: " + "; ".join(subtitle(against)[1:]),
        f"{len(shown)} of {len(comparison):,} inputs, each with its two ranks",
    )
    return drawing


def _dumbbells(axes: Axes, first: pd.Series, second: pd.Series) -> None:
    places = np.arange(len(first))
    axes.hlines(places, first, second, color=REST, lw=2.5)
    axes.scatter(first, places, s=32, color=LARGE, zorder=3)
    axes.scatter(second, places, s=32, color=SMALL, marker="D", zorder=3)


def _with_ranks(name: str, first: float, second: float) -> str:
    """`C14  1 → 3`."""
    ranks = [DASH if np.isnan(rank) else f"{rank:.0f}" for rank in (first, second)]
    return f"{shorten(feature_name(name))}  {ranks[0]} → {ranks[1]}"


@figure
def removals(shares: pd.DataFrame, rows: int, about: Explanation) -> Figure:
    """The share of rows still predicted positive when all inputs of a kind are replaced.

    `shares`, measured on `rows` rows, has removed (dense, fields or history), replacement (baseline
    or data row), positive_before, positive_after, mean_logit_before and mean_logit_after.
    """
    drawing = Figure(figsize=(9, 1.2 + 0.34 * len(shares)), layout="constrained")
    positive, logit = drawing.subplots(1, 2, sharey=True)
    for axes, name, form in ((positive, "positive", "{:.1%}"), (logit, "mean_logit", "{:.2f}")):
        values = [shares[f"{name}_before"].iloc[0], *shares[f"{name}_after"]]
        colours = [LARGE, *[SMALL] * len(shares)]
        horizontal_bars(axes, values, color=colours, texts=[form.format(v) for v in values])
        zero_line(axes)
    positive.set_xlim(0, 1.15)
    positive.xaxis.set_major_formatter(PercentFormatter(1))
    positive.set_xlabel("rows predicted positive (logit above 0)")
    logit.margins(x=0.2)
    logit.xaxis.set_major_locator(MaxNLocator(5))
    logit.set_xlabel("mean logit")
    replaced = shares["removed"].map(REMOVED) + " " + shares["replacement"].map(REPLACEMENTS)
    label_rows(positive, ["all inputs unchanged", *replaced], letters=40)
    if (
        np.unique(shares.filter(like="positive_")).size == 1
    ):  # as of ratings, all of which are positive
        positive.remove()
        label_rows(logit, ["all inputs unchanged", *replaced], letters=40)
        logit.tick_params(labelleft=True)
    set_title(
        drawing,
        "How do the predictions change without a whole kind of inputs?",
        *sample_subtitle(about, rows),
    )
    return drawing

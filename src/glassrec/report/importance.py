"""The picture of which inputs move the prediction."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from glassrec.artifacts import Explanation
from glassrec.report.effects import CHANCE, beyond_chance, with_effect, without_effect
from glassrec.report.style import INK, LARGE, PALE, SMALL, drawn, heading, short, subtitle

SHOWN = 40
"""Bars that a reader can still tell apart."""

GREY = "#7b8a96"
"""Names of what is not distinguishable from chance."""


@drawn
def feature_importance(importance: pd.DataFrame, about: Explanation) -> Figure:
    """The mean |attribution| of each input that has one, with its interval, the largest first.

    Args:
        importance: one row a player: player, mean_abs, mean_abs_low, mean_abs_high, mean and, where
            chance was tested, q_value; some of them have an effect.
        about: what was explained and how.
    """
    moving = with_effect(importance)
    shown = moving.head(SHOWN)
    figure = Figure(figsize=(7.5, 1.0 + 0.22 * len(shown)), layout="constrained")
    axes = figure.subplots()
    bars(axes, shown["player"], shown)
    axes.set_xlabel("attribution to the logit")
    named(figure, axes)
    left_out = len(moving) - len(shown)
    more = f"the {left_out:,} least important of {len(moving):,} are not shown"
    facts = [more if left_out else "", without_effect(importance, about)]
    heading(figure, "Which inputs move the prediction?", *subtitle(about), *filter(None, facts))
    return figure


def bars(axes: Axes, names: Iterable[str], statistics: pd.DataFrame) -> None:
    """A bar of mean_abs a name, from the top down, with its interval, and a mark at mean."""
    size = statistics["mean_abs"].to_numpy(float)
    places = np.arange(len(size))
    found = beyond_chance(statistics)
    told = (found, LARGE, "mean |·| over rows, so that signs do not cancel")
    untold = (~found, PALE, f"the same, but not distinguishable from chance (q ≥ {CHANCE})")
    for some, colour, label in (told, untold):
        # Bars that are not there would stand in the legend in a colour of their own.
        if some.any():
            axes.barh(places[some], size[some], 0.7, color=colour, label=label)
    interval = [size - statistics["mean_abs_low"], statistics["mean_abs_high"] - size]
    axes.errorbar(
        size, places, xerr=np.clip(interval, 0, None), fmt="none", ecolor=INK, elinewidth=1.2,
        label="its 95 % interval (bootstrap)",
    )  # fmt: skip
    axes.plot(
        statistics["mean"], places, "D", color=SMALL, mec=INK, mew=0.5, ms=4.5,
        label="signed mean",
    )  # fmt: skip
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(places, [short(name) for name in names])
    for place in np.flatnonzero(~found):
        axes.get_yticklabels()[place].set_color(GREY)
    axes.set_ylim(len(size) - 0.4, -0.6)


def named(figure: Figure, axes: Axes) -> None:
    """Below the figure, what the bars and marks of `bars` are."""
    handles, labels = axes.get_legend_handles_labels()
    bars_first = sorted(range(len(labels)), key=lambda at: isinstance(handles[at], Line2D))
    figure.legend(
        [handles[at] for at in bars_first],
        [labels[at] for at in bars_first],
        loc="outside lower left",
        ncols=2,
    )

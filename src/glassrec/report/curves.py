"""The picture of quality against the share that is cut."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from glassrec.metrics.metadata import sign
from glassrec.report.reading import LED, RANDOM, Way, of_split, reading, ways
from glassrec.report.style import APART, INK, REST, SMALL, drawn, heading

LOOK = {RANDOM: (REST, 1.6), LED: (SMALL, 2.8)}
"""Colour and width of the lines that have a band; the others are thin."""


@drawn
def pruning_curves(frame: pd.DataFrame, metric: str) -> Figure:
    """A metric against the share of each layer's units that is cut, a panel a way of cutting.

    Args:
        frame: rows of `prune.curves.Curves.of`; a column `seed` tells the runs of one setting
            apart, over which lines are means; bands are of what is lost, as seeds start from
        different heights.
        metric: the column that is drawn, such as `val/auroc`.
    """
    shown = ways(frame)
    figure = Figure(figsize=(max(6.5, 3.9 * len(shown)), 4.4), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, way in zip(panels, shown, strict=True):
        _panel(axes, frame if "seed" in frame else frame.assign(seed=0), way, metric)
    better = "less" if sign(metric) < 0 else "more"
    name, split = of_split(metric)
    panels[0].set_ylabel(f"{name} on the {split} split ({better} is better)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower left", ncols=3 * len(shown))
    heading(
        figure,
        "How much can be cut, and does it matter by which score?",
        reading(frame, metric)[0],
        f"units of the least worth go first; {_bands(frame)}",
    )
    return figure


def _bands(frame: pd.DataFrame) -> str:
    """What lines and bands are."""
    seeds = frame["seed"].nunique() if "seed" in frame else 1
    orders = frame.loc[frame["score"] == RANDOM, "draw"].nunique()
    told = f"lines: means of {seeds} seeds" if seeds > 1 else "one run"
    if orders > 1:
        told += f"; {RANDOM}: {orders} orders{' of each' if seeds > 1 else ''}"
    bands = "bands: one standard deviation, either way, of what is lost"
    return f"{told}; {bands}" if max(seeds, orders) > 1 else told


def _panel(axes: Axes, frame: pd.DataFrame, way: Way, metric: str) -> None:
    """The curves of one way, conductance before the others and random behind them."""
    cuts = frame[(frame["folded"] == way.folded) & (frame["epochs"] == way.epochs)]
    uncut = cuts[cuts["share"] == 0].groupby("seed")[metric].mean()
    cuts = cuts.assign(lost=cuts["seed"].map(uncut) - cuts[metric])
    axes.axhline(uncut.mean(), color=INK, lw=0.8, ls=(0, (4, 3)), label="uncut", zorder=1)
    scores = list(dict.fromkeys(cuts["score"]))
    apart = [score for score in scores if score not in LOOK]
    for score in sorted(scores, key=[RANDOM, *apart[::-1], LED].index):
        curve = cuts[cuts["score"] == score].groupby("share")
        mean, deviation = curve[metric].mean(), curve["lost"].std()
        colour = APART[apart.index(score) % len(APART)] if score in apart else LOOK[score][0]
        width = LOOK.get(score, ("", 1.3))[1]
        axes.plot(mean.index, mean, "o-", color=colour, lw=width, ms=1.5 * width, label=score)
        if score in LOOK:
            ends = mean - deviation, mean + deviation
            axes.fill_between(mean.index, *ends, color=colour, alpha=0.25, lw=0)
    axes.set_title(f"{way}".capitalize())
    axes.set_xlim(-0.02, 1)
    axes.set_xlabel("units of each layer that are cut")
    axes.xaxis.set_major_formatter(PercentFormatter(1))

"""Figures of a model: its training, and its pruning curves."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from glassrec.metrics.metadata import best_index, direction
from glassrec.report.formatting import metric_name
from glassrec.report.primitives import line
from glassrec.report.statements import (
    RANDOM,
    REFERENCE,
    PruningVariant,
    pruning_variants,
    split_metric,
)
from glassrec.report.style import INK, LARGE, QUALITATIVE, REST, SMALL, figure, set_title

EMPHASIS = {RANDOM: (REST, 1.6), REFERENCE: (SMALL, 2.8)}
"""Colour and width of the lines that have a band; the others are thin."""


@figure
def learning_curve(history: pd.DataFrame, monitor: str, mode: str | None = None) -> Figure:
    """The training loss and the metric `monitor` (`val/auroc`) that selected the epoch.

    `history` has a row per epoch: epoch, train/loss and metrics of the validation split. Epoch 0,
    the weights that training started from, has no loss. `mode`: min or max, see `best_index`.
    """
    kept = best_index(monitor, history[monitor], mode)
    drawing = Figure(figsize=(7.5, 2.9), layout="constrained")
    panels = drawing.subplots(1, 2)
    for axes, name, colour in zip(panels, ("train/loss", monitor), (LARGE, SMALL), strict=True):
        epochs, values = history["epoch"], history[name]
        line(axes, epochs, values, color=colour, label=name, marker="o", ms=4, lw=2)
        ring = {"ms": 11, "mfc": "none", "mec": INK, "mew": 1.5, "clip_on": False}
        axes.plot(epochs.iloc[kept], values.iloc[kept], "o", **ring)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.06, y=0.12)
    loss, quality = panels
    loss.set_title("Loss on the training rows\n(lower is better)")
    name = metric_name(monitor)
    quality.set_title(f"{name} on the validation split\n({direction(monitor, mode)})")
    set_title(drawing, f"How did training go? Epoch {history['epoch'].iloc[kept]} is kept")
    return drawing


@figure
def pruning_curves(frame: pd.DataFrame, metric: str, finding: str) -> Figure:
    """A metric against the share of each layer's neurons that is pruned, one panel per variant.

    `frame` has rows of `PruningCurves.compute`; a column `seed` separates the runs of one setting,
    over which lines are means; bands show the loss of the metric, as seeds start from different
    levels. `finding` is the most important statement about the curves.
    """
    variants = pruning_variants(frame)
    drawing = Figure(figsize=(max(6.5, 3.9 * len(variants)), 4.4), layout="constrained")
    panels = drawing.subplots(1, len(variants), sharey=True, squeeze=False)[0]
    seeded = frame if "seed" in frame else frame.assign(seed=0)
    for axes, variant in zip(panels, variants, strict=True):
        _pruning_panel(axes, seeded, variant, metric)
    name, split = split_metric(metric)
    panels[0].set_ylabel(f"{metric_name(name)} on the {split} split ({direction(metric)})")
    handles, labels = panels[0].get_legend_handles_labels()
    columns = 3 * len(variants)
    drawing.legend(handles[::-1], labels[::-1], loc="outside lower left", ncols=columns)
    set_title(
        drawing,
        "How much can be pruned, and by which score?",
        finding,
        f"neurons of the lowest importance are pruned first; {_bands(seeded)}",
    )
    return drawing


def _bands(frame: pd.DataFrame) -> str:
    seeds = frame["seed"].nunique()
    orders = frame.loc[frame["score"] == RANDOM, "draw"].nunique()
    text = f"lines: means of {seeds} seeds" if seeds > 1 else "one run"
    if orders > 1:
        text += f"; {RANDOM}: {orders} orders{' of each' if seeds > 1 else ''}"
    bands = "bands: ± one standard deviation of the loss of the metric"
    return f"{text}; {bands}" if max(seeds, orders) > 1 else text


def _pruning_panel(axes: Axes, frame: pd.DataFrame, variant: PruningVariant, metric: str) -> None:
    """The curves of one variant, conductance before the others and random behind them."""
    cuts = frame[(frame["folded"] == variant.folded) & (frame["epochs"] == variant.epochs)]
    unpruned = cuts[cuts["share"] == 0].groupby("seed")[metric].mean()
    cuts = cuts.assign(loss=cuts["seed"].map(unpruned) - cuts[metric])
    axes.axhline(unpruned.mean(), color=INK, lw=0.8, ls=(0, (4, 3)), label="unpruned", zorder=1)
    scores = list(dict.fromkeys(cuts["score"]))
    others = [score for score in scores if score not in EMPHASIS]
    for score in sorted(scores, key=[RANDOM, *others[::-1], REFERENCE].index):
        curve = cuts[cuts["score"] == score].groupby("share")
        mean = curve[metric].mean()
        if score in EMPHASIS:
            (colour, width), band = EMPHASIS[score], curve["loss"].std()
        else:
            colour, width = QUALITATIVE[others.index(score) % len(QUALITATIVE)], 1.3
            band = None
        line(axes, mean.index, mean, band=band, color=colour, label=score, marker="o", lw=width,
             ms=1.5 * width)  # fmt: skip
    axes.set_title(f"{variant}".capitalize())
    axes.set_xlim(-0.02, 1)
    axes.set_xlabel("pruned share of each layer's neurons")
    axes.xaxis.set_major_formatter(PercentFormatter(1))

"""Figures of a model: its training, its pruning curves, and both models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from glassrec.metrics.metadata import IN_UNIT, best_index, direction, format_metric
from glassrec.report.formatting import COSTS, format_value, minus, relative_change
from glassrec.report.primitives import horizontal_bars, label_rows, line, share_bars
from glassrec.report.statements import (
    RANDOM,
    REFERENCE,
    PruningVariant,
    pruning_variants,
    split_metric,
)
from glassrec.report.style import INK, LARGE, QUALITATIVE, REST, SMALL, figure, set_title

if TYPE_CHECKING:
    from glassrec.artifacts import Certificate, PrunePlan

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
    loss.set_title("Loss on the training rows (lower is better)")
    metric = monitor.removeprefix("val/")
    quality.set_title(f"{metric} on the validation split ({direction(monitor, mode)})")
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
    panels[0].set_ylabel(f"{name} on the {split} split ({direction(metric)})")
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


@figure
def before_and_after(
    metrics: Mapping[str, float], shown: Sequence[str], plan: PrunePlan, certificate: Certificate
) -> Figure:
    """Quality, cost and layer sizes of the model as trained and of the pruned one.

    `metrics` are those of `metrics.json` and `latency.json`; of the test metrics, `shown` are
    compared, named without their prefix.
    """
    costs = [name for name in COSTS if metrics.get(name)]  # of nothing there is no share
    heights = [0.9 + 0.42 * len(shown), 0.9 + 0.24 * max(len(costs), len(plan.layers))]
    drawing = Figure(figsize=(9.5, sum(heights)), layout="constrained")
    (quality, change), (cost, size) = drawing.subplots(2, 2, height_ratios=heights)
    _quality_panel(quality, metrics, shown)
    _change_panel(change, metrics, shown)
    pairs = [(metrics[name], metrics[f"pruned/{name}"]) for name in costs]
    texts = [
        f"{COSTS[name][1](before)} → {COSTS[name][1](after)} ({relative_change(before, after)})"
        for name, (before, after) in zip(costs, pairs, strict=True)
    ]
    names = [COSTS[name][0] for name in costs]
    share_bars(cost, names, [after / before for before, after in pairs], texts)
    cost.set_title("Cost of the pruned model")
    cost.set_xlabel("share of the cost as trained (latency: median)")
    if plan.layers:
        sizes = [(len(cut.kept), cut.built) for cut in plan.layers.values()]
        kept = [f"{kept} of {built} kept" for kept, built in sizes]
        share_bars(size, [*plan.layers], [kept / built for kept, built in sizes], kept)
        size.set_title("Size of each layer")
        size.set_xlabel("neurons kept")
    else:
        size.remove()
    set_title(
        drawing,
        f"What did pruning change? {plan.dropped:,} of {plan.units:,} neurons were pruned",
        f"guarantee: {plan.level}; {_comparison(certificate)}",
        *_agreement(metrics),
    )
    return drawing


def _comparison(certificate: Certificate) -> str:
    rows = sum(certificate.rows.values())
    largest = f"largest |Δlogit| {format_value(certificate.max_abs_logit_difference)}"
    if certificate.exact:
        return f"equal on all {rows:,} rows: {largest}"
    return f"{certificate.rows_changed:,} of {rows:,} rows changed: {largest}"


def _agreement(metrics: Mapping[str, float]) -> list[str]:
    end = "top10_agreement"
    found = {name.split("/")[-2]: share for name, share in metrics.items() if name.endswith(end)}
    return [
        f"{share:.1%} of each list's first 10 are among its first 10 after pruning"
        + (f" (task {task})" if task != "test" else "")
        for task, share in found.items()
    ]


def _quality_panel(axes: Axes, metrics: Mapping[str, float], shown: Sequence[str]) -> None:
    for offset, prefix, label, colour in (
        (-0.2, "test/", "as trained", LARGE),
        (0.2, "pruned/test/", "pruned", SMALL),
    ):
        values = [metrics[prefix + m] for m in shown]
        texts = [format_metric(m, value) for m, value in zip(shown, values, strict=True)]
        horizontal_bars(
            axes, values, color=colour, texts=texts, height=0.38, offset=offset, label=label
        )
    label_rows(axes, shown, letters=60)
    axes.margins(x=0.25)
    axes.set_title("Quality on the test split")
    axes.legend(loc="lower right", bbox_to_anchor=(1.08, 1), ncols=2, borderaxespad=0)


def _change_panel(axes: Axes, metrics: Mapping[str, float], shown: Sequence[str]) -> None:
    """The differences, with their intervals, around a line at zero."""
    sizes = [metrics[f"test/{metric}"] for metric in shown if metric.endswith(IN_UNIT)]
    reach = 1e-4 * min([1.0, *sizes])
    for place, metric in enumerate(shown):
        name = f"pruned/test/{metric}_change"
        change, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
        if isnan(change):
            text = "not defined"
        else:
            axes.plot([low, high], [place, place], color=SMALL, linewidth=3, alpha=0.55)
            axes.plot(change, place, "o", color=SMALL, markersize=6)
            reach = max(reach, abs(low), abs(high))
            size = metrics[f"test/{metric}"]
            ends = [format_metric(metric, value, size) for value in (change, low, high)]
            text = minus(f"{ends[0]} ({ends[1]} to {ends[2]})")
        # On white, as the line at zero passes behind it.
        box = {"color": "white", "pad": 1}
        axes.text(0, place - 0.2, text, ha="center", va="bottom", fontsize=8, bbox=box)
    axes.axvline(0, color=LARGE, linewidth=1, zorder=0)
    label_rows(axes, shown, letters=60)
    axes.set_ylim(len(shown) - 0.5, -0.75)
    axes.set_xlim(-1.3 * reach, 1.3 * reach)
    axes.locator_params(axis="x", nbins=5)
    axes.set_title("Change: pruned − as trained")
    axes.set_xlabel("bars: 95 % paired bootstrap interval")

"""Figures of the attributions of single rows: as bars, as dots, and over the steps of a history."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from glassrec.artifacts import Attributions, Explanation
from glassrec.report.formatting import format_value, minus
from glassrec.report.primitives import (
    MAX_WRITTEN,
    colour_bar,
    colour_legend,
    heat_map,
    label_rows,
    zero_line,
)
from glassrec.report.style import (
    DIVERGING,
    INK,
    LARGE,
    LOW_TO_HIGH,
    QUALITATIVE,
    REST,
    figure,
    set_title,
    subtitle,
)

MAX_EXAMPLES, MAX_COLOURED = 8, 6
"""Single rows in a figure, and their features that have a colour of their own."""

MAX_STRIPS, MAX_DOTS = 15, 400
"""Features and rows in a figure of dots; more dots would hide each other."""

STRIP_BINS = 120
"""Places across the panel; dots of one place are set above each other."""

DARK = -0.6
"""The share of the largest below which a diverging cell needs white letters."""

_STEP = re.compile(r"history\[-(\d+)\](\[\d+\])?")


def evenly_spaced(logits: Tensor, most: int) -> Tensor:
    """Rows at evenly spaced ranks of their logits, the lowest first."""
    return logits.argsort(stable=True)[_evenly(len(logits), most)]


def _evenly(count: int, most: int) -> Tensor:
    places = np.linspace(0, count - 1, min(most, count)).round().astype(int)
    return torch.from_numpy(places)


def by_size(values: Tensor) -> np.ndarray:
    """The places of the features or neurons of values (N, P), the most important first."""
    return values.abs().mean(0).nan_to_num().argsort(descending=True, stable=True).numpy()


@figure
def single_rows(sample: Attributions, about: Explanation) -> Figure:
    """Stacked bars that lead from the baseline's logit to the row's, for a few rows of a sample."""
    chosen = evenly_spaced(sample.logits, MAX_EXAMPLES).flip(0)
    order = by_size(sample.values)
    drawing = Figure(figsize=(9, 1.6 + 0.55 * len(chosen)), layout="constrained")
    axes = drawing.subplots()
    axes.use_sticky_edges = False  # room beside the longest bars
    parts, start, logits = (
        values[chosen].double().numpy()
        for values in (sample.values, sample.baseline_logits, sample.logits)
    )
    others = parts[:, order[MAX_COLOURED:]]
    pools = [others.clip(max=0).sum(1), others.clip(min=0).sum(1)]
    end = _waterfall(axes, np.column_stack([parts[:, order[:MAX_COLOURED]], *pools]), start)
    _mark_ends(axes, start, end, logits)
    ends = [f"{before:.2f} → {after:.2f}" for before, after in zip(start, logits, strict=True)]
    numbers = sample.rows[chosen].tolist()
    label_rows(
        axes, [f"row {n}: {minus(way)}" for n, way in zip(numbers, ends, strict=True)], letters=99
    )
    axes.set_xlabel("logit")
    named = [sample.features[place] for place in order[:MAX_COLOURED]]
    marks = axes.get_legend_handles_labels()[0]
    handles = [*colour_legend(named, len(sample.features)), *marks]
    drawing.legend(handles=handles, loc="outside lower left", ncols=4)
    set_title(
        drawing,
        "How are single predictions composed?",
        *subtitle(about),
        f"{len(chosen)} of these rows, evenly spaced by the rank of their logits",
        "upper bar: negative attributions, leftwards from the baseline; lower bar: positive ones, "
        "from there back to the row's logit",
    )
    return drawing


def _waterfall(axes: Axes, parts: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Negative parts (R, K + 2) to the left of `start` (R,), positive ones back; where they end."""
    colours = [*QUALITATIVE[: parts.shape[1] - 2], REST, REST]
    at = start
    for lane, signed in ((-0.17, parts.clip(max=0)), (0.17, parts.clip(min=0))):
        for part, colour in zip(signed.T, colours, strict=True):
            places = np.arange(len(parts)) + lane
            axes.barh(places, part, 0.32, left=at, color=colour, edgecolor="white", linewidth=0.4)
            at = at + part
    return at


def _mark_ends(axes: Axes, start: np.ndarray, end: np.ndarray, logits: np.ndarray) -> None:
    places = np.arange(len(start))
    for at, dashes, label in (
        (start, ":", "the baseline's logit"),
        (logits, "-", "the row's logit"),
    ):
        axes.vlines(at, places - 0.42, places + 0.42, color=INK, ls=dashes, lw=1.8, label=label)
    missed = logits - end
    span = np.nanmax([*np.abs(logits - start), 0])
    if (np.abs(missed) > 0.005 * span).any():
        axes.barh(
            places + 0.17, missed, 0.16, left=end, facecolor="white", edgecolor=INK, hatch="////",
            linewidth=0.5, label="completeness error",
        )  # fmt: skip


@figure
def attribution_strips(sample: Attributions, about: Explanation) -> Figure:
    """A dot per row of a sample for each of the most important features."""
    rows = evenly_spaced(sample.logits, MAX_DOTS)
    moving = int(sample.values.any(0).sum())
    shown = by_size(sample.values)[: min(MAX_STRIPS, max(1, moving))]
    drawing = Figure(figsize=(8, max(2.4, 1.2 + 0.4 * len(shown))), layout="constrained")
    axes = drawing.subplots()
    values = sample.values[rows].double().numpy()[:, shown]
    # In a heap, and where dots hide each other, the order says nothing.
    shuffled = np.random.default_rng(0).permutation(len(values))
    values = values[shuffled]
    lines = np.arange(values.shape[1]) + stacked_offsets(values)
    ranks = np.repeat(shuffled / max(1, len(values) - 1), values.shape[1])
    look: dict[str, Any] = {"cmap": LOW_TO_HIGH, "vmin": 0, "vmax": 1, "linewidths": 0}
    dots = axes.scatter(values.ravel(), lines.ravel(), 7, ranks, **look)
    zero_line(axes)
    label_rows(axes, [sample.features[place] for place in shown])
    axes.set_xlabel("attribution to the logit")
    label = "the row's logit\n(lowest, median, highest)"
    bar = colour_bar(drawing, dots, label, ax=axes, ticks=[0, 0.5, 1], pad=0.01, aspect=40)
    levels = np.quantile(sample.logits[rows].numpy(), [0, 0.5, 1])
    bar.ax.set_yticklabels([format_value(level) for level in levels])
    set_title(
        drawing,
        "Does an input raise some predictions and lower others?",
        *subtitle(about),
        f"a dot is one of {len(rows)} of these rows; {len(shown)} of {len(sample.features):,} "
        "inputs, the most important first",
    )
    return drawing


def stacked_offsets(values: np.ndarray) -> np.ndarray:
    """Offsets within ±0.4 for values (N, P) that set those of a column apart where they crowd."""
    known = values[~np.isnan(values)]
    low, high = known.min(initial=0), known.max(initial=0)
    bins = np.round((values - low) / ((high - low) or 1) * STRIP_BINS)
    long = pd.DataFrame(bins).melt(var_name="feature", value_name="bin")
    heaps = long.groupby(["feature", "bin"], dropna=False)["bin"]
    count = heaps.transform("size")
    place = heaps.cumcount() - (count - 1) / 2
    highest = count.groupby(long["feature"]).transform("max")
    step = np.minimum(0.07, 0.8 / highest)
    return (place * step).to_numpy().reshape(values.shape[::-1]).T


class HistorySteps(NamedTuple):
    """The attributions of the T steps of N histories, newest last."""

    ago: list[int]
    """(T,): 1 is the newest"""
    values: Tensor
    """(N, T): summed over embedding dimensions, where those are the features"""
    real: Tensor
    """(N, T): false where there is padding"""

    @property
    def names(self) -> list[str]:
        """`last`, `2nd last`, …; where there are many, a few of them."""
        every = max(1, -(-len(self.ago) // MAX_WRITTEN))
        return [_ordinal(ago) if (ago - 1) % every == 0 else "" for ago in self.ago]


def explains_steps(features: Sequence[str]) -> bool:
    """Whether steps of a history are among the features."""
    return any(_STEP.fullmatch(name) for name in features)


@figure
def time_steps(sample: Attributions, history: Tensor, about: Explanation) -> Figure:
    """The mean |attribution| of each step with its standard error, and some single rows.

    `sample` has attributions to steps, and perhaps to other features; `history` (N, T) are the
    histories of its rows, 0 = padding.
    """
    steps = attributions_of_steps(sample, history)
    drawing = Figure(figsize=(min(13.0, 7.5 + 0.35 * len(steps.ago)), 4.6), layout="constrained")
    mean, examples = drawing.subplots(1, 2, width_ratios=[2, 3])
    _step_means(mean, steps)
    _step_examples(drawing, examples, steps, sample.logits)
    set_title(
        drawing,
        "Which past interactions move the prediction?",
        *subtitle(about),
        f"this figure shows {len(sample.logits):,} of these rows",
    )
    return drawing


def attributions_of_steps(sample: Attributions, history: Tensor) -> HistorySteps:
    """The attributions (N, T) of the steps among the features."""
    found = [_STEP.fullmatch(name) for name in sample.features]
    of_feature = [int(match[1]) if match else 0 for match in found]
    length = max(of_feature)
    # One more column, which is dropped, for the features that are no steps.
    sums = torch.zeros(len(sample.values), length + 1, dtype=sample.values.dtype)
    sums.index_add_(1, torch.tensor([length - ago for ago in of_feature]), sample.values)
    return HistorySteps([*range(length, 0, -1)], sums[:, :length], history[:, -length:] != 0)


def _step_means(axes: Axes, steps: HistorySteps) -> None:
    rows = steps.real.sum(0).clamp_min(1)
    size = steps.values.abs()
    mean = size.sum(0) / rows
    deviation = (((size - mean) ** 2 * steps.real).sum(0) / rows).sqrt()
    error = (deviation / rows.sqrt()).numpy()
    places = np.arange(len(steps.ago))
    axes.bar(places, mean.numpy(), yerr=error, color=LARGE, ecolor=INK, width=0.8)
    axes.set_xticks(places, steps.names, rotation=45, ha="right", fontsize=8)
    axes.set_ylabel(
        "mean |attribution| to the logit\n± standard error, over rows that have the step"
    )
    axes.set_xlabel("step of the history, newest on the right")
    axes.set_title("On average")


def _step_examples(drawing: Figure, axes: Axes, steps: HistorySteps, logits: Tensor) -> None:
    """Rows evenly spaced by the rank of the sum over their steps."""
    totals = steps.values.sum(1)
    chosen = totals.argsort(descending=True)[_evenly(len(totals), MAX_EXAMPLES + 1)]
    cells = np.where(steps.real[chosen].numpy(), steps.values[chosen].numpy(), np.nan)
    largest = float(np.nanmax(abs(cells), initial=0) or 1)
    rows = [
        minus(f"history {totals[row]:+.2f}, logit {logits[row]:.2f}") for row in chosen.tolist()
    ]
    readable = len(steps.ago) <= MAX_WRITTEN
    image = heat_map(
        axes, cells, DIVERGING, Normalize(-largest, largest),
        rows=rows, columns=steps.names, rotation=45, white=lambda value: value < DARK * largest,
        format_cell=(lambda v: "" if np.isnan(v) else minus(f"{v:+z.2f}")) if readable else None,
    )  # fmt: skip
    axes.set_title("In single rows, from most raised to most lowered")
    axes.set_xlabel("step of the history; grey: the user had none yet")
    colour_bar(drawing, image, "attribution to the logit", ax=axes, pad=0.01, aspect=30)


def _ordinal(ago: int) -> str:
    """`last`, `2nd last`, `11th last`, `22nd last`."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    end = "th" if 10 <= ago % 100 <= 20 else ends.get(ago % 10, "th")
    return "last" if ago == 1 else f"{ago}{end} last"

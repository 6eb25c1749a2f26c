"""The pictures of single rows: what moved each of a few, and how the effects of many spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from glassrec.artifacts import Attributions, Explanation
from glassrec.report.style import (
    APART,
    INK,
    LARGE,
    REST,
    SMALL,
    digits,
    drawn,
    heading,
    minus,
    short,
    subtitle,
)

EXAMPLES = 8
"""Single rows that are shown, from the highest logit to the lowest."""

NAMED = 6
"""Players with a colour of their own."""

SPREAD = 15
"""Players whose dots are shown."""

DOTS = 400
"""Rows that are dots; more would hide each other."""

BINS = 120
"""Places across the panel; dots of one place are set above each other."""

LOW_TO_HIGH = LinearSegmentedColormap.from_list("low to high", [LARGE, "#c9ccd0", SMALL])


def evenly(logits: torch.Tensor, most: int) -> torch.Tensor:
    """Rows at even places of the order of their logits, the lowest first."""
    places = np.linspace(0, len(logits) - 1, min(most, len(logits))).round().astype(int)
    return logits.argsort(stable=True)[torch.from_numpy(places)]


@drawn
def single_rows(sample: Attributions, about: Explanation) -> Figure:
    """Stacked bars that lead from the baseline's logit to the row's, for a few rows.

    Args:
        sample: attributions of some of the explained rows.
        about: what was explained and how.
    """
    chosen = evenly(sample.logits, EXAMPLES).flip(0)
    order = _by_size(sample)
    figure = Figure(figsize=(9, 1.6 + 0.55 * len(chosen)), layout="constrained")
    axes = figure.subplots()
    axes.use_sticky_edges = False  # room beside the longest bars
    parts, start, logits = (
        values[chosen].double().numpy()
        for values in (sample.values, sample.baseline_logits, sample.logits)
    )
    end = _stack(axes, _pooled(parts, order), start)
    _mark_ends(axes, start, end, logits)
    _name_rows(axes, sample.rows[chosen].tolist(), start, logits)
    named = patches([sample.players[player] for player in order[:NAMED]], len(sample.players))
    marks = axes.get_legend_handles_labels()[0]
    figure.legend(handles=[*named, *marks], loc="outside lower left", ncols=4)
    heading(
        figure,
        "What made single predictions what they are?",
        *subtitle(about),
        f"{len(chosen)} of these rows, at even places of the order of their logits",
        "upper bar: what lowers the logit, leftwards from the baseline; lower bar: what raises it, "
        "from there back to the row's logit",
    )
    return figure


def _by_size(sample: Attributions) -> np.ndarray:
    """The places of the players, the most important first."""
    size = sample.values.abs().mean(0).nan_to_num()
    return size.argsort(descending=True, stable=True).numpy()


def patches(named: Sequence[str], count: int) -> list[Patch]:
    """Colours for a legend: those with a colour of their own, and the rest of `count` in one."""
    found = [Patch(color=colour, label=short(n)) for colour, n in zip(APART, named, strict=False)]
    left = count - len(named)
    return (
        [*found, Patch(color=REST, label=f"the other {left:,}, pooled by sign")] if left else found
    )


def _pooled(parts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(R, K + 2): the parts of the K named players, and the falls and rises of all others."""
    others = parts[:, order[NAMED:]]
    pools = [others.clip(max=0).sum(1), others.clip(min=0).sum(1)]
    return np.column_stack([parts[:, order[:NAMED]], *pools])


def _stack(axes: Axes, parts: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Draw the falls to the left of `start` (R,), the rises back from there; where they end."""
    places = np.arange(len(parts))
    colours = [*APART[: parts.shape[1] - 2], REST, REST]
    at = start
    for lane, signed in ((-0.17, parts.clip(max=0)), (0.17, parts.clip(min=0))):
        for part, colour in zip(signed.T, colours, strict=True):
            axes.barh(
                places + lane, part, 0.32, left=at, color=colour, edgecolor="white", linewidth=0.4
            )
            at = at + part
    return at


def _name_rows(axes: Axes, rows: Sequence[int], start: np.ndarray, logits: np.ndarray) -> None:
    """Beside each row its number and its way."""
    ways = [f"{before:.2f} → {after:.2f}" for before, after in zip(start, logits, strict=True)]
    labels = [f"row {row}: {minus(way)}" for row, way in zip(rows, ways, strict=True)]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel("logit")


def _mark_ends(axes: Axes, start: np.ndarray, end: np.ndarray, logits: np.ndarray) -> None:
    """The baseline's logit, the row's, and what the parts miss of the way between them."""
    places = np.arange(len(start))
    for at, colour, style, label in (
        (start, INK, ":", "the baseline's logit"),
        (logits, INK, "-", "the row's logit"),
    ):
        axes.vlines(at, places - 0.42, places + 0.42, color=colour, ls=style, lw=1.8, label=label)
    missed = logits - end
    span = np.nanmax([*np.abs(logits - start), 0])
    if (np.abs(missed) > 0.005 * span).any():
        axes.barh(
            places + 0.17, missed, 0.16, left=end, facecolor="white", edgecolor=INK, hatch="////",
            linewidth=0.5, label="what the parts miss",
        )  # fmt: skip


@drawn
def spread(sample: Attributions, about: Explanation) -> Figure:
    """A dot a row for each of the most important players: where their effects lie.

    Args:
        sample: attributions of some of the explained rows.
        about: what was explained and how.
    """
    rows = evenly(sample.logits, DOTS)
    moving = int(sample.values.any(0).sum())
    shown = _by_size(sample)[: min(SPREAD, max(1, moving))]
    figure = Figure(figsize=(8, max(2.4, 1.2 + 0.4 * len(shown))), layout="constrained")
    axes = figure.subplots()
    dots = _dots(axes, sample.values[rows].double().numpy()[:, shown])
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(range(len(shown)), [short(sample.players[player]) for player in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("attribution to the logit")
    bar = figure.colorbar(dots, ax=axes, ticks=[0, 0.5, 1], pad=0.01, aspect=40)
    levels = np.quantile(sample.logits[rows].numpy(), [0, 0.5, 1])
    bar.ax.set_yticklabels([digits(level) for level in levels])
    bar.set_label("the row's logit\n(lowest, median, highest)")
    bar.outline.set_visible(False)
    heading(
        figure,
        "Does an input raise some predictions and lower others?",
        *subtitle(about),
        f"a dot is one of {len(rows)} of these rows; {len(shown)} of {len(sample.players):,} "
        "inputs, the most important first",
    )
    return figure


def _dots(axes: Axes, values: np.ndarray) -> PathCollection:
    """A dot for each of values (N, P), with one line a player and one colour a row."""
    # In a heap, and where dots hide each other, the order says nothing.
    shuffled = np.random.default_rng(0).permutation(len(values))
    values = values[shuffled]
    lines = np.arange(values.shape[1]) + heaped(values)
    places = np.repeat(shuffled / max(1, len(values) - 1), values.shape[1])
    return axes.scatter(
        values.ravel(), lines.ravel(), 7, places, cmap=LOW_TO_HIGH, vmin=0, vmax=1, linewidths=0
    )


def heaped(values: np.ndarray) -> np.ndarray:
    """Offsets within ±0.4 for values (N, P) that set those of a column apart where they crowd."""
    known = values[~np.isnan(values)]
    low, high = known.min(initial=0), known.max(initial=0)
    bins = np.round((values - low) / ((high - low) or 1) * BINS)
    long = pd.DataFrame(bins).melt(var_name="player", value_name="bin")
    heaps = long.groupby(["player", "bin"], dropna=False)["bin"]
    count = heaps.transform("size")
    place = heaps.cumcount() - (count - 1) / 2
    highest = count.groupby(long["player"]).transform("max")
    step = np.minimum(0.07, 0.8 / highest)
    return (place * step).to_numpy().reshape(values.shape[::-1]).T

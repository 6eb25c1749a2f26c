"""Figures of neurons: their importance by rank and by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from glassrec.artifacts import Explanation
from glassrec.report.formatting import shorten
from glassrec.report.input_figures import importance_bars
from glassrec.report.primitives import colour_bar, heat_map, triangle
from glassrec.report.statements import neuron_counts, ranked, stability, with_effect
from glassrec.report.style import (
    ALERT,
    INK,
    LARGE,
    REST,
    SEQUENTIAL,
    figure,
    neuron_subtitle,
    set_title,
)

MAX_STRONGEST = 25
"""Neurons of a layer that have a bar."""

PAIR = "×"
"""Separates the two names of a pair."""

DEFINED = (
    "zero: no attribution on any of these rows, for any task; never positive: negative on some "
    "rows and zero on the others; always negative: on every row"
)


@figure
def neuron_importance(scores: pd.DataFrame, about: Explanation) -> Figure:
    """The mean |attribution| of every neuron, ranked, one panel per layer.

    `scores` has a row per neuron: layer, name, mean_abs, mean_abs_low, mean_abs_high, max_abs,
    positive_share and negative_share.
    """
    layers = list(dict.fromkeys(scores["layer"]))
    columns = min(2, len(layers))
    rows = -(-len(layers) // columns)
    drawing = Figure(figsize=(max(6.5, 4.6 * columns), 2.5 * rows), layout="constrained")
    panels = drawing.subplots(rows, columns, squeeze=False).flatten()
    for axes, layer in zip(panels, layers, strict=False):
        _ranking(axes, layer, ranked(scores[scores["layer"] == layer]))
        axes.set_ylabel(f"mean |{measure(about)}|", fontsize=8)
    for axes in panels[len(layers) :]:
        axes.set_visible(False)
    set_title(
        drawing,
        "Which neurons carry the prediction?",
        *neuron_subtitle(about),
        f"neurons by rank; band: the 95 % interval; red: zero attribution; {DEFINED}",
    )
    return drawing


def measure(about: Explanation) -> str:
    """The name of the neurons' measure without its settings: `conductance`."""
    return about.neurons.split(",")[0]


def count_text(scores: pd.DataFrame) -> str:
    """The numbers of neurons with zero attribution and of never positive ones."""
    zero, never = neuron_counts(scores)
    always = (scores["negative_share"] == 1).sum()
    return f"{len(scores)} neurons: {zero} zero, {never} never positive ({always} always negative)"


def _ranking(axes: Axes, layer: str, scores: pd.DataFrame) -> None:
    size = scores["mean_abs"].to_numpy(float)
    active = int((scores["max_abs"] > 0).sum())
    edges = np.arange(len(size) + 1) + 0.5
    axes.stairs(size, edges, fill=True, color=LARGE)
    low, high = scores["mean_abs_low"], scores["mean_abs_high"]
    axes.stairs(high, edges, baseline=low, fill=True, color=INK, alpha=0.3)
    if active < len(size):
        axes.axvspan(active + 0.5, len(size) + 0.5, color=ALERT, alpha=0.25, lw=0)
    axes.set_xlim(0.5, len(size) + 0.5)
    axes.set_ylim(bottom=0)
    strongest = scores["name"][size > 0].head(3)
    names = ", ".join(shorten(name.removeprefix(layer), 14) for name in strongest) or "none"
    axes.set_title(f"{layer}\n{count_text(scores)}", fontsize=9)
    axes.set_xlabel(f"rank; strongest: {names}", fontsize=8)


@figure
def layer_neurons(scores: pd.DataFrame, about: Explanation) -> Figure:
    """The importance of every neuron of one layer, and the strongest of them with their intervals.

    `scores` has a row per neuron: layer, unit, name (`C3×C14` for a pair), the statistics that
    `count_text` and `importance_bars` take, and rank_stability of the layer.
    """
    strongest = with_effect(scores).head(MAX_STRONGEST)
    of_pairs = scores["name"].str.count(PAIR) == 1
    pairs, single = scores[of_pairs], scores[~of_pairs]
    maps = {name: part for name, part in (("single", single), ("pairs", pairs)) if len(part)}
    height = max(6.5 if len(pairs) else 3.2, 1.6 + 0.22 * len(strongest))
    drawing = Figure(figsize=(12.5, height), layout="constrained")
    panels = drawing.subplot_mosaic(
        [[name, "bars"] for name in maps],
        width_ratios=[3, 2],
        height_ratios=[10 if name == "pairs" else 1 for name in maps],
    )
    norm = PowerNorm(0.5, 0, float(np.nan_to_num(scores["mean_abs"].max())) or 1)
    draw = {"single": _grid, "pairs": _pair_triangle}
    images = [draw[name](panels[name], part, norm) for name, part in maps.items()]
    last = panels[[*maps][-1]]
    place: dict[str, Any] = {"orientation": "horizontal", "aspect": 50, "pad": 0.02}
    if len(pairs):  # a triangle leaves a corner free
        place["cax"] = last.inset_axes((0.5, 0.93, 0.46, 0.03))
    bar = colour_bar(drawing, images[-1], ax=last, **place)
    bar.set_label(f"mean |{measure(about)}|, shaded by its square root; hatched: zero", size=8)
    bar.locator = MaxNLocator(3)  # shades grow as square roots, which crowds the upper end
    importance_bars(drawing, panels["bars"], strongest["name"], strongest)
    panels["bars"].set_title(f"The {len(strongest)} strongest")
    panels["bars"].set_xlabel(measure(about))
    set_title(
        drawing,
        f"How important is each neuron of {scores['layer'].iloc[0]}?",
        *neuron_subtitle(about),
        "; ".join([count_text(scores), *stability(scores["rank_stability"].iloc[0])]),
        DEFINED,
    )
    return drawing


def _pair_triangle(axes: Axes, pairs: pd.DataFrame, norm: PowerNorm) -> AxesImage:
    """Each pair once: the vector stacked first as column, the other as row."""
    ends = pairs["name"].str.split(PAIR, expand=True)
    names = list(dict.fromkeys(ends.to_numpy().ravel()))
    pair_names = list(zip(ends[0], ends[1], strict=True))
    cells = triangle(pair_names, pairs["mean_abs"], names)[1:, :-1]
    short = [shorten(name, 14) for name in names]
    image = heat_map(
        axes, cells, SEQUENTIAL, norm, rows=short[1:], columns=short[:-1], background=None
    )
    zero = triangle(pair_names, (pairs["max_abs"] == 0).astype(float), names)[1:, :-1]
    _hatch(axes, *np.nonzero(zero == 1))
    axes.set_title("Pairs")
    return image


def _grid(axes: Axes, neurons: pd.DataFrame, norm: PowerNorm) -> AxesImage:
    unit = neurons["unit"].to_numpy() - neurons["unit"].min()
    last = unit.max()
    width = min(last + 1, 16 if last < 64 else 32 if last < 1024 else 64)
    rows, columns = np.divmod(unit, width)
    cells = np.full((rows.max() + 1, width), np.nan)
    cells[rows, columns] = neurons["mean_abs"]
    image = heat_map(axes, cells, SEQUENTIAL, norm, rows=[""] * len(cells), columns=[""] * width,
                     background=None)  # fmt: skip
    zero = (neurons["max_abs"] == 0).to_numpy()
    _hatch(axes, rows[zero], columns[zero])
    starts = neurons.loc[columns == 0, "name"]
    every = -(-len(starts) // 16)
    axes.set_yticks(rows[columns == 0][::every], [shorten(name, 16) for name in starts[::every]])
    axes.tick_params(axis="x", labelrotation=0)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter("+{x:.0f}")
    axes.set_title("Single neurons, by their numbers")
    return image


def _hatch(axes: Axes, rows: np.ndarray, columns: np.ndarray) -> None:
    axes.bar(columns, 1, 1, bottom=rows - 0.5, color=REST, edgecolor="white", hatch="/////", lw=0)

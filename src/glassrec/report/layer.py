"""The picture of all units of one layer, by name: the pairs of an interaction as a triangle."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from glassrec.artifacts import Explanation
from glassrec.report.effects import with_effect
from glassrec.report.importance import bars, named
from glassrec.report.neurons import DEFINED, counted, measure
from glassrec.report.style import REST, UP, drawn, heading, short, stability, subtitle

RANKED = 25
"""Units whose numbers are shown as bars."""

BETWEEN = "×"
"""What stands between the two names of a pair."""


@drawn
def interaction_neurons(scores: pd.DataFrame, about: Explanation) -> Figure:
    """The importance of every unit of one layer, and the strongest of them with their intervals.

    Args:
        scores: one row a unit of the layer: layer, unit, name (`C3×C14` for a pair), the statistics
            that `neurons.counted` and `importance.bars` take, and rank_stability of the layer.
        about: what was explained and how.
    """
    strongest = with_effect(scores).head(RANKED)
    of_pairs = scores["name"].str.count(BETWEEN) == 1
    pairs, single = scores[of_pairs], scores[~of_pairs]
    maps = {name: part for name, part in (("single", single), ("pairs", pairs)) if len(part)}
    height = max(6.5 if len(pairs) else 3.2, 1.6 + 0.22 * len(strongest))
    figure = Figure(figsize=(12.5, height), layout="constrained")
    panels = figure.subplot_mosaic(
        [[name, "bars"] for name in maps],
        width_ratios=[3, 2],
        height_ratios=[10 if name == "pairs" else 1 for name in maps],
    )
    colours = PowerNorm(0.5, 0, float(np.nan_to_num(scores["mean_abs"].max())) or 1)
    images = [_MAPS[name](panels[name], part, colours) for name, part in maps.items()]
    bar = _colour_bar(figure, panels[[*maps][-1]], images[-1], inside=bool(len(pairs)))
    bar.set_label(f"mean |{measure(about)}|, shaded by its square root; hatched: silent", size=8)
    bars(panels["bars"], strongest["name"], strongest)
    panels["bars"].set_title(f"The {len(strongest)} strongest")
    panels["bars"].set_xlabel(measure(about))
    named(figure, panels["bars"])
    heading(
        figure,
        f"How much does each unit of {scores['layer'].iloc[0]} carry?",
        *subtitle(about, neurons=True),
        "; ".join([counted(scores), *stability(scores["rank_stability"].iloc[0])]),
        DEFINED,
    )
    return figure


def _triangle(axes: Axes, pairs: pd.DataFrame, colours: PowerNorm) -> AxesImage:
    """Each pair once: the vector stacked first as column, the other as row."""
    ends = pairs["name"].str.split(BETWEEN, expand=True).set_axis(["column", "row"], axis=1)
    names = list(dict.fromkeys(ends.to_numpy().ravel()))
    place = {name: at for at, name in enumerate(names)}
    rows = ends["row"].map(place).to_numpy() - 1
    columns = ends["column"].map(place).to_numpy()
    cells = np.full((len(names) - 1, len(names) - 1), np.nan)
    cells[rows, columns] = pairs["mean_abs"]
    image = _map(axes, cells, colours)
    silent = (pairs["max_abs"] == 0).to_numpy()
    _hatch(axes, rows[silent], columns[silent])
    axes.set_xticks(range(len(cells)), [short(name, 14) for name in names[:-1]], rotation=90)
    axes.set_yticks(range(len(cells)), [short(name, 14) for name in names[1:]])
    axes.set_title("Pairs")
    return image


def _grid(axes: Axes, units: pd.DataFrame, colours: PowerNorm) -> AxesImage:
    """Units by their numbers, from the left to the right and down, as text runs."""
    unit = units["unit"].to_numpy() - units["unit"].min()
    last = unit.max()
    width = min(last + 1, 16 if last < 64 else 32 if last < 1024 else 64)
    rows, columns = np.divmod(unit, width)
    cells = np.full((rows.max() + 1, width), np.nan)
    cells[rows, columns] = units["mean_abs"]
    image = _map(axes, cells, colours)
    silent = (units["max_abs"] == 0).to_numpy()
    _hatch(axes, rows[silent], columns[silent])
    starts = units.loc[columns == 0, "name"]
    every = -(-len(starts) // 16)
    axes.set_yticks(rows[columns == 0][::every], [short(name, 16) for name in starts[::every]])
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter("+{x:.0f}")
    axes.set_title("Single units, by their numbers")
    return image


_MAPS = {"single": _grid, "pairs": _triangle}


def _map(axes: Axes, cells: np.ndarray, colours: PowerNorm) -> AxesImage:
    image = axes.imshow(cells, cmap=UP, norm=colours, aspect="auto")
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    return image


def _hatch(axes: Axes, rows: np.ndarray, columns: np.ndarray) -> None:
    """Silent units look like nothing else."""
    axes.bar(columns, 1, 1, bottom=rows - 0.5, color=REST, edgecolor="white", hatch="/////", lw=0)


def _colour_bar(figure: Figure, axes: Axes, image: AxesImage, *, inside: bool) -> Colorbar:
    """The scale of the colours: in the empty corner of a triangle, else below the panel."""
    corner = axes.inset_axes((0.5, 0.93, 0.46, 0.03)) if inside else None
    bar = figure.colorbar(image, corner, axes, orientation="horizontal", aspect=50, pad=0.02)
    bar.outline.set_visible(False)
    # Shades grow as square roots, which crowds the upper end.
    bar.locator = MaxNLocator(3)
    return bar

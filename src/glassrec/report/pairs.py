"""The picture of which features act together."""

from __future__ import annotations

from math import floor, log10

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glassrec.artifacts import Explanation
from glassrec.report.style import INK, LARGE, SMALL, drawn, heading, short, without_method

SHOWN = 30
"""Features whose names a reader can still tell apart."""

WRITTEN = 12
"""Features up to which each cell has room for its number."""

PANELS = {
    "mean_abs": ("In what the model says\nmean |interaction| of the logit", LARGE, "#163a54", 0.45),
    "weight_norm": (
        "In its weights alone\nnorm of the pair's kernel blocks",
        SMALL,
        "#8f4d14",
        0.7,
    ),
}
"""For each column that is drawn: title, colour, the colour of the largest value, and the share of
that from which on letters are white."""


@drawn
def feature_pairs(pairs: pd.DataFrame, rows: int, about: Explanation) -> Figure:
    """The interaction of every two features, and beside it the model's own view of them.

    Args:
        pairs: first, second and mean_abs of each pair, and weight_norm where the model has one.
        rows: on how many of the explained rows.
        about: what was explained; its method is of no matter here.
    """
    strength = _strength(pairs)
    shown = list(strength.index[:SHOWN])
    columns = [column for column in PANELS if column in pairs]
    cells = (0.48 if len(shown) <= WRITTEN else 0.22) * len(shown)
    side = max(1.8 + cells, 6.5 / len(columns))
    figure = Figure(figsize=(side * len(columns), side), layout="constrained")
    panels = figure.subplots(1, len(columns), squeeze=False).flatten()
    for axes, column in zip(panels, columns, strict=True):
        _triangle(axes, _square(pairs, column, shown), *PANELS[column])
    left_out = len(strength) - len(shown)
    heading(
        figure,
        "Which features act together?",
        "what two of them move that neither moves alone: "
        "f(x) − f(x without i) − f(x without j) + f(x without both)",
        *without_method(about, rows),
        *([f"the {left_out:,} that interact least are not shown"] if left_out else []),
    )
    return figure


def _strength(pairs: pd.DataFrame) -> pd.Series:
    """How much each feature interacts with all others, the strongest first."""
    both = pd.concat([pairs.set_index(end)["mean_abs"] for end in ("first", "second")])
    return both.groupby(level=0, sort=False).sum().sort_values(ascending=False, kind="stable")


def _square(pairs: pd.DataFrame, column: str, names: list[str]) -> pd.DataFrame:
    """The values of a column as a matrix: below the diagonal each pair once, NaN elsewhere.

    The first row and the last column would have no cell, and are left out.
    """
    half = pairs.pivot(index="first", columns="second", values=column)
    half = half.reindex(index=names, columns=names)
    below = half.fillna(half.T).where(np.tri(len(names), k=-1, dtype=bool))
    return below.iloc[1:, :-1]


def _triangle(
    axes: Axes, values: pd.DataFrame, title: str, colour: str, darkest: str, dark: float
) -> None:
    """One heat map; its scale stands in the empty corner."""
    cells = values.to_numpy(float)
    largest = np.nanmax(cells) or 1.0
    colours = LinearSegmentedColormap.from_list("", ["#f1f4f6", colour, darkest])
    image = axes.imshow(cells, aspect="auto", cmap=colours, vmin=0, vmax=largest)
    axes.set_xticks(range(len(cells)), map(short, values.columns), rotation=90)
    axes.set_yticks(range(len(cells)), map(short, values.index))
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10)
    corner = axes.inset_axes((0.93, 0.56, 0.03, 0.42))
    scale = axes.figure.colorbar(image, cax=corner, ticks=MaxNLocator(4))
    scale.outline.set_visible(False)
    corner.tick_params(
        length=0, labelsize=8, left=True, labelleft=True, right=False, labelright=False
    )
    if len(cells) < WRITTEN:
        _write(axes, cells, largest, dark)


def _write(axes: Axes, cells: np.ndarray, largest: float, dark: float) -> None:
    """The number of each cell, to two digits of the largest."""
    decimals = max(0, 1 - floor(log10(largest)))
    for row, column in np.argwhere(~np.isnan(cells)):
        value = cells[row, column]
        ink = "white" if value > dark * largest else INK
        text = f"{value:.{decimals}f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)

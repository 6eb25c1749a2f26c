"""The few forms that all figures are made of: bars, lines, heat maps, and their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from glassrec.data.schema import OUTPUTS, TaskKind
from glassrec.report.formatting import DASH, feature_name, minus, number_text, shorten
from glassrec.report.style import FAINT, INK, LARGE

MAX_WRITTEN = 12
"""Rows or columns of a heat map up to which each cell has room for its number."""


def label_rows(axes: Axes, names: Iterable[str], *, letters: int = 26) -> None:
    """One name per line, the first at the top."""
    labels = [shorten(feature_name(name), letters) for name in names]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)


def horizontal_bars(
    axes: Axes, values: Any, *, color: Any = LARGE,
    intervals: Sequence[Any] | None = None, texts: Sequence[str] = (), height: float = 0.7,
    offset: float = 0, label: str | None = None,
) -> None:  # fmt: skip
    """A bar per value from the top down, with its interval (low, high) and a text at its end.

    Lines are 1 apart; `height` is that of a bar, and `offset` its distance from its line.
    """
    size, places = np.asarray(values, float), np.arange(len(values)) + offset
    bars = axes.barh(places, size, height, color=color, label=label)
    if texts:
        axes.bar_label(bars, labels=[minus(text) for text in texts], fontsize=8.5, padding=3)
    if intervals is not None:
        error_bars(axes, size, places, intervals)


def error_bars(
    axes: Axes, middle: np.ndarray, places: np.ndarray, ends: Sequence[Any], label: str = ""
) -> None:
    """The intervals (low, high) of bars, without caps."""
    low, high = (np.asarray(end, float) for end in ends)
    lengths = np.clip([middle - low, high - middle], 0, None)
    look: dict[str, Any] = {"fmt": "none", "ecolor": INK, "elinewidth": 1.2}
    axes.errorbar(middle, places, xerr=lengths, label=label or None, **look)


def zero_line(axes: Axes) -> None:
    """A vertical line at zero."""
    axes.axvline(0, color=INK, lw=0.8)


def line(
    axes: Axes, x: Any, y: Any, *, band: Any = None, color: str, label: str, **look: Any
) -> None:
    """A line; with `band`, shaded so far up and down."""
    axes.plot(x, y, color=color, label=label, **look)
    if band is not None:
        axes.fill_between(x, y - band, y + band, color=color, alpha=0.25, lw=0)


def heat_map(
    axes: Axes, cells: np.ndarray, colours: Colormap, norm: Normalize, *,
    rows: Sequence[str], columns: Sequence[str], rotation: float = 90, aspect: Any = "auto",
    format_cell: Callable[[float], str] | None = None, white: Callable[[float], bool] | None = None,
    background: str | None = FAINT, size: float = 8,
) -> AxesImage:  # fmt: skip
    """Cells (R, C) as colours with names, NaN in the colour of the background (None: the page's).

    `format_cell` writes each number into its cell, where empty text leaves it free, in white
    letters where `white` holds of the value. `rotation` is that of the columns' names in degrees,
    and `size` that of all names in points.
    """
    if background is not None:
        axes.set_facecolor(background)
    image = axes.imshow(cells, cmap=colours, norm=norm, aspect=aspect)
    slanted: dict[str, Any] = {"ha": "right"} if rotation % 90 else {}
    axes.set_xticks(range(len(columns)), columns, rotation=rotation, **slanted)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labelsize=size)
    axes.spines[:].set_visible(False)
    if format_cell is not None:
        for (row, column), value in np.ndenumerate(cells):
            if text := format_cell(value):
                ink = "white" if white is not None and white(value) else INK
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    return image


def colour_bar(figure: Figure, image: Any, label: str = "", **place: Any) -> Colorbar:
    """The scale of the colours, without a frame."""
    bar = figure.colorbar(image, **place)
    bar.set_label(label, size=8.5)
    bar.outline.set_visible(False)
    return bar


def triangle(pairs: Sequence[tuple[str, str]], values: Any, order: Sequence[str]) -> np.ndarray:
    """(n, n) with each pair once, below the diagonal, in the order of the n names; NaN elsewhere.

    The first row and the last column have no pair.
    """
    place = {name: at for at, name in enumerate(order)}
    cells = np.full((len(order), len(order)), np.nan)
    for (first, second), value in zip(pairs, values, strict=True):
        if first in place and second in place:
            cells[tuple(sorted((place[first], place[second]), reverse=True))] = value
    return cells


def named_value(feature: str, values: pd.DataFrame, row: int) -> str:
    """`price = 91.23`; the name alone where `values`, see `decode`, have no such column."""
    if feature not in values:
        return feature_name(feature)
    return f"{feature_name(feature)} = {value_text(values[feature].iloc[row])}"


def value_text(value: float | str | None) -> str:
    """A raw value; `none` where there is none."""
    if isinstance(value, str):
        return value
    return "none" if value is None or np.isnan(value) else number_text(value)


def logit_name(kind: TaskKind) -> str:
    """The name of the logit of a task, which is an estimate or a score where it is no click."""
    return "logit" if kind == "click" else OUTPUTS[kind]


def format_correlation(value: float) -> str:
    """A correlation with two decimals; a dash where it is not known."""
    return DASH if np.isnan(value) else minus(f"{value:.2f}")

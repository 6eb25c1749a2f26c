"""Waterfalls: from the baseline's logit, value by value, to the logit of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.special import expit, logit

from glassrec.artifacts import Attributions, Explanation
from glassrec.data.schema import OUTPUTS, TaskKind
from glassrec.report.formatting import format_value, minus, percent
from glassrec.report.primitives import label_rows, logit_name, named_value
from glassrec.report.row_figures import evenly_spaced
from glassrec.report.style import INK, LARGE, REST, SMALL, figure, set_title, subtitle
from glassrec.spelling import counted

MAX_BARS, FEW_BARS = 10, 6
"""Bars of single features, of one row and of several; one more stands for all others."""

EXAMPLES = {1: ("only",), 2: ("highest", "lowest"), 3: ("highest", "median", "lowest")}
"""The rows that `waterfalls` shows, by their number."""

MISSED = 0.005
"""The share of the logit difference from which a completeness error is drawn."""

_Bar = tuple[str, float, str]  # a label, a size and a colour

_PROBABILITIES = np.array([0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999])
"""Those of a probability axis."""


@figure
def waterfall(
    labels: Sequence[str], values: np.ndarray, start: float, end: float, *,
    title: str, facts: Sequence[str] = (), probability: bool = True,
) -> Figure:  # fmt: skip
    """A bar a feature, the strongest at the top, each from where the one above ends.

    Args:
        labels: of P features, with their values: `price = 91.23`.
        values: (P,) the attributions.
        start: the logit of the baseline.
        end: the logit of the row. What the attributions miss of it is drawn as completeness error.
        title: of the figure.
        facts: lines below it.
        probability: whether an axis at the top shows the sigmoid of the logit.
    """
    bars = _bars(labels, values, end - start, MAX_BARS)
    drawing = Figure(figsize=(7, 1.1 + 0.34 * len(bars)), layout="constrained")
    axes = drawing.subplots()
    _panel(axes, bars, start, end, "click" if probability else None)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    set_title(drawing, title, *facts)
    return drawing


@figure
def waterfalls(
    sample: Attributions, values: pd.DataFrame, about: Explanation, kind: TaskKind = "click"
) -> Figure:
    """The waterfalls of the rows of a sample (N) with the highest, median and lowest logit.

    `values` (N rows) has the value of each feature that has one, see `decode`.
    """
    rows = evenly_spaced(sample.logits, max(EXAMPLES)).tolist()[::-1]
    parts, starts, ends = (
        each.double().numpy() for each in (sample.values, sample.baseline_logits, sample.logits)
    )
    bars = []
    for row in rows:
        labels = [named_value(name, values, row) for name in sample.features]
        bars.append(_bars(labels, parts[row], ends[row] - starts[row], FEW_BARS))
    heights = [1.35 + 0.28 * len(each) for each in bars]
    drawing = Figure(figsize=(7, sum(heights)), layout="constrained")
    panels = drawing.subplots(len(bars), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, each, row, name in zip(panels, bars, rows, EXAMPLES[len(rows)], strict=True):
        _panel(axes, each, starts[row], ends[row], kind)
        outputs = (float(each[row]) for each in (starts, ends))
        before, after = (percent(expit(x)) if kind == "click" else format_value(x) for x in outputs)
        axes.set_title(
            f"{name.capitalize()} {OUTPUTS[kind]}, {after}: row {int(sample.rows[row]):,}; "
            f"{before} at the baseline",
            weight="bold",
        )
    set_title(
        drawing, "How are single predictions composed?", *subtitle(about),
        f"each bar: how far a value moves the prediction, up (orange) or down (blue), from that of "
        f"the baseline (dotted) to that of the row (solid); of {len(sample.logits):,} of these "
        "rows, those with the highest, the median and the lowest prediction",
    )  # fmt: skip
    return drawing


def _bars(labels: Sequence[str], values: np.ndarray, difference: float, most: int) -> list[_Bar]:
    """The strongest features, all others as one, and what the attributions miss."""
    order = np.argsort(-np.abs(values), kind="stable")[: np.isfinite(values).sum()]  # NaN last
    single, others = order[:most], order[most:]
    bars = [(labels[at], values[at], SMALL if values[at] > 0 else LARGE) for at in single]
    if len(others):
        bars.append((counted(len(others), "other feature"), values[others].sum(), REST))
    missed = difference - values[order].sum()
    if abs(missed) > MISSED * abs(difference):
        bars.append(("completeness error", missed, "white"))
    return bars


def _panel(
    axes: Axes, bars: Sequence[_Bar], start: float, end: float, kind: TaskKind | None
) -> None:
    _draw(axes, [size for _, size, _ in bars], [colour for *_, colour in bars], start)
    label_rows(axes, [label for label, *_ in bars], letters=38)
    axes.set_ylim(len(bars) - 0.3, -0.7)
    for at, dashes, name in ((start, ":", "baseline"), (end, "-", "this row")):
        axes.axvline(at, color=INK, ls=dashes, lw=1, zorder=0, label=f"{name}: {_signed(at, '')}")
    axes.set_xlabel(logit_name(kind or "click"))
    if kind == "click":
        _probability_axis(axes)


def _draw(axes: Axes, sizes: Sequence[float], colours: Sequence[str], start: float) -> None:
    ends = start + np.cumsum(sizes)
    begins = ends - np.asarray(sizes)
    low, high = min([start, *begins, *ends]), max([start, *begins, *ends])
    span = (high - low) or 1.0
    axes.set_xlim(low - 0.16 * span, high + 0.16 * span)  # room for the numbers
    for place, (size, begin, end, colour) in enumerate(
        zip(sizes, begins, ends, colours, strict=True)
    ):
        edge: Any = (
            {"edgecolor": INK, "hatch": "////", "linewidth": 0.5} if colour == "white" else {}
        )
        axes.barh(place, size, 0.66, left=begin, color=colour, **edge)
        if place + 1 < len(sizes):
            axes.plot([end, end], [place - 0.33, place + 1.33], color=INK, lw=0.6)
        side, align = (0.012, "left") if size >= 0 else (-0.012, "right")
        look: dict[str, Any] = {"va": "center", "ha": align, "fontsize": 8.5}
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # above the lines
        axes.text(end + side * span, place, _signed(size), bbox=ground, **look)


def _signed(value: float, sign: str = "+") -> str:
    return minus(f"{value:{sign}z.2f}" if abs(value) >= 0.005 else f"{value:{sign}.1g}")


def _probability_axis(axes: Axes) -> None:
    """The probabilities at the top that lie in the panel, apart from each other."""
    top = axes.twiny()
    low, high, ticks = *axes.get_xlim(), _PROBABILITIES
    inside = ticks[(ticks > expit(low)) & (ticks < expit(high))]
    if len(inside) < 3:
        ticks = np.array(MaxNLocator(4).tick_values(expit(low), expit(high)))
        inside = ticks[(ticks > expit(low)) & (ticks < expit(high))]
    places = logit(inside)
    kept: list[int] = []
    for at, place in enumerate(places):
        if not kept or place - places[kept[-1]] > 0.08 * (high - low):
            kept.append(at)
    top.set_xlim(low, high)
    top.set_xticks(places[kept], [f"{100 * inside[at]:.3g} %" for at in kept])
    top.set_xlabel("probability")
    top.spines["top"].set_visible(True)

"""The charts of the page: settings beside each other, each in its own colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import Any

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from glassrec.compare.comparison import Search
from glassrec.compare.pareto import front
from glassrec.compare.shown import Curves, Shown, told
from glassrec.metrics import merit
from glassrec.report.page import LETTERS, svg
from glassrec.report.style import INK, LARGE, REST, STYLE

LOOK: dict[Any, Any] = {
    **STYLE, **LETTERS, "font.size": 10, "axes.labelsize": 10,
    "xtick.labelsize": 9.5, "ytick.labelsize": 9.5, "path.simplify_threshold": 0.5,
}  # fmt: skip
"""Letters that can be read where a chart is as wide as a phone."""

EPOCHS, CUT = "epochs of training", "units of each layer that are cut"
UNITS, CARRIED = "strongest units of each layer", "conductance they carry"
"""Names of axes."""

Point = tuple[float, float]


def against_size(
    prefix: str, described: str, shown: Sequence[Shown], metric: str, size: str
) -> Markup | None:
    """Quality and size of every setting, as trained and pruned, and the front of both.

    Args:
        prefix: of the ids in the drawing.
        described: in words.
        shown: the settings.
        metric: a metric, such as `test/auroc`.
        size: a cost, such as `parameters`.
    """
    points = [(each, _ends(each, size, metric)) for each in shown]
    every = [end for _, ends in points for end in ends]
    if not every:
        return None
    with mpl.rc_context(LOOK):
        figure, axes = _canvas(told(size), told(metric))
        for each, ends in reversed(points):
            _trained_and_pruned(axes, each, ends)
        best = front([[-x, merit(metric, y)] for x, y in every])
        _draw_front(axes, [end for end, on in zip(every, best, strict=True) if on])
        sizes = [x for x, _ in every]
        if 0 < 5 * min(sizes) < max(sizes):
            axes.set_xscale("log")
            # A few ticks, whether sizes span one power of ten or four.
            subs = (1,) if max(sizes) > 100 * min(sizes) else (1, 2, 5)
            axes.xaxis.set_major_locator(LogLocator(subs=subs))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        return svg(figure, prefix, described, {each.key: each.label for each in shown})


def _ends(each: Shown, size: str, metric: str) -> list[Point]:
    """The model as trained, and as pruned if that is known."""
    trained = _point(each, size, metric)
    pruned = _point(each, f"pruned/{size}", f"pruned/{metric}")
    return [end for end in (trained, pruned) if end is not None] if trained else []


def _point(each: Shown, size: str, metric: str) -> Point | None:
    """Mean size and quality over seeds; None where one of them is not known."""
    x, y = (each.setting.mean.get(name, nan) for name in (size, metric))
    return None if isnan(x + y) else (x, y)


def _trained_and_pruned(axes: Axes, each: Shown, ends: Sequence[Point]) -> None:
    if len(ends) == 2:
        axes.plot(*zip(*ends, strict=True), color=each.colour, lw=1.2, alpha=0.7, gid=each.of)
    # Where nothing changed, one is seen around the other.
    for (x, y), mark, fill, size in zip(ends, "oD", (each.colour, "none"), (5, 8), strict=False):
        axes.plot(x, y, mark, color=each.colour, mfc=fill, mew=1.3, ms=size, gid=each.of)


def _draw_front(axes: Axes, points: Sequence[Point]) -> None:
    across, upwards = zip(*sorted(points), strict=True)
    axes.plot(across, upwards, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=0)


def trials(prefix: str, described: str, search: Search, keys: Mapping[str, str]) -> Markup:
    """The two objectives of a search, a dot a trial, and the front of both.

    Args:
        prefix: of the ids in the drawing.
        described: in words.
        search: has two objectives.
        keys: of the settings of the trials, by the names of the runs.
    """
    (upwards, _), (across, _) = search.objectives
    points = [(trial.values[1], trial.values[0]) for trial in search.trials]
    with mpl.rc_context(LOOK):
        figure, axes = _canvas(told(across), told(upwards))
        for trial, (x, y), on in zip(search.trials, points, search.front, strict=True):
            colour, size = (LARGE, 7) if on else (REST, 5)
            axes.plot(x, y, "o", color=colour, ms=size, gid=f"of:{keys.get(trial.name, '')}")
        _draw_front(axes, [end for end, on in zip(points, search.front, strict=True) if on])
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        names = {keys[trial.name]: trial.name for trial in search.trials if trial.name in keys}
        return svg(figure, prefix, described, names)


def lines(prefix: str, described: str, found: Curves, across: str, upwards: str) -> Markup:
    """A line a setting, the best in front, with a band of one standard deviation over seeds."""
    with mpl.rc_context(LOOK):
        figure, axes = _canvas(across, upwards)
        for each, frame in reversed(found):
            _line(axes, each, frame)
        if across == EPOCHS:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        else:
            axes.xaxis.set_major_formatter(PercentFormatter(1))
        if upwards == CARRIED:
            axes.axhline(0.9, color=REST, lw=0.9, ls=(0, (4, 3)))
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        return svg(figure, prefix, described, {each.key: each.label for each, _ in found})


def _line(axes: Axes, each: Shown, frame: pd.DataFrame) -> None:
    mean = frame.mean(axis=1)
    if frame.shape[1] > 1:
        spread = frame.std(axis=1).fillna(0)
        axes.fill_between(mean.index, mean - spread, mean + spread, color=each.colour,
                          alpha=0.15, lw=0, gid=each.of)  # fmt: skip
    # A single epoch is no line; it has to be seen all the same.
    mark = "o" if len(mean) < 15 else ""
    axes.plot(mean.index, mean, marker=mark, ms=3, lw=1.7, color=each.colour, gid=each.of)


def _canvas(across: str, upwards: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 3.1), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(upwards)
    axes.locator_params(nbins=5)
    return figure, axes

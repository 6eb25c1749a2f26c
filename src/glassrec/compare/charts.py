"""The charts of a task, each under the question that it answers; a colour is a setting's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from glassrec.compare.comparison import Search, Task, front
from glassrec.compare.curves import CARRIED, EPOCHS, Curves, curves, questions
from glassrec.compare.settings_table import limited
from glassrec.compare.shown import Shown, told
from glassrec.metrics.metadata import as_higher_is_better
from glassrec.report.page import LETTERS, svg
from glassrec.report.style import INK, LARGE, QUALITATIVE, REST, STYLE
from glassrec.spelling import counted, listed

LOOK: dict[Any, Any] = {
    **STYLE, **LETTERS, "font.size": 10, "axes.labelsize": 10,
    "xtick.labelsize": 9.5, "ytick.labelsize": 9.5, "path.simplify_threshold": 0.5,
}  # fmt: skip
"""Letters that can be read where a chart is as wide as a phone."""

DASHED: dict[str, Any] = {"lw": 0.9, "ls": (0, (4, 3))}

SIZES = {
    "parameters": "Which model is good for its size?",
    "flops": "Which model is good for what a prediction costs?",
}

Point = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """A drawing, the question above it, what it rests on, and its colours."""

    heading: str
    picture: Markup
    rests: str
    legend: Sequence[Shown]


def charts(
    prefix: str, task: Task, searches: Sequence[Search], shown: Sequence[Shown],
    best: Sequence[Shown],
) -> Iterator[Chart]:  # fmt: skip
    """The charts that there is something to draw for.

    Args:
        prefix: of all ids in the drawings.
        task: what they are of.
        searches: of all tasks.
        shown: the settings of the task.
        best: those of which curves are drawn.
    """
    with mpl.rc_context(LOOK):
        for metric in task.shown[:1]:
            for size, asked in SIZES.items():
                yield from _against_size(f"{prefix}-{size}", asked, shown, metric, size)
        for number, search in enumerate(searches):
            yield from _trials(f"{prefix}-search{number}", search, shown)
        for number, question in enumerate(questions(task)):
            if found := curves(best, question.of):
                drawing = _lines(question.across, question.upwards, found)
                rests = f"{question.say(found)} {question.rests}{limited(task)}"
                yield _chart(f"{prefix}-curve{number}", question.asked, drawing, rests,
                             [each for each, _ in found])  # fmt: skip


def _chart(prefix: str, asked: str, figure: Figure, rests: str, shown: Sequence[Shown]) -> Chart:
    tips = {each.key: each.label for each in shown}
    return Chart(asked, svg(figure, prefix, asked, tips), rests, shown[: len(QUALITATIVE)])


def _against_size(
    prefix: str, asked: str, shown: Sequence[Shown], metric: str, size: str
) -> Iterator[Chart]:
    """Quality and size of every setting, as trained and pruned, and the front of both."""
    points = [(each, _ends(each, size, metric)) for each in shown]
    every = [end for _, ends in points for end in ends]
    if not every:
        return
    figure, axes = _canvas(told(size), told(metric))
    for each, ends in reversed(points):
        _trained_and_pruned(axes, each, ends)
    _draw_front(axes, every, front([[-x, as_higher_is_better(metric, y)] for x, y in every]))
    _scale(axes, [x for x, _ in every])
    rests = (
        f"{metric}, mean over seeds. ● as trained, ◇ after the cut; dashed: no other is better and "
        "smaller."
    )
    yield _chart(prefix, asked, figure, rests, [each for each, ends in points if ends])


def _ends(each: Shown, size: str, metric: str) -> list[Point]:
    """Mean size and quality of the model as trained, and as pruned; none that is not known."""
    mean = each.setting.mean
    found = [
        (mean.get(f"{of}{size}", nan), mean.get(f"{of}{metric}", nan)) for of in ("", "pruned/")
    ]
    return [end for end in found if isfinite(sum(end))] if isfinite(sum(found[0])) else []


def _trained_and_pruned(axes: Axes, each: Shown, ends: Sequence[Point]) -> None:
    if len(ends) == 2:
        axes.plot(*zip(*ends, strict=True), color=each.colour, lw=1.2, alpha=0.7, gid=each.of)
    # Where nothing changed, one is seen around the other.
    for (x, y), mark, fill, size in zip(ends, "oD", (each.colour, "none"), (5, 8), strict=False):
        axes.plot(x, y, mark, color=each.colour, mfc=fill, mew=1.3, ms=size, gid=each.of)


def _draw_front(axes: Axes, points: Sequence[Point], on_front: Sequence[bool]) -> None:
    best = sorted(point for point, on in zip(points, on_front, strict=True) if on)
    axes.plot(*zip(*best, strict=True), color=INK, zorder=0, **DASHED)


def _scale(axes: Axes, sizes: Sequence[float]) -> None:
    if 0 < 5 * min(sizes) < max(sizes):
        axes.set_xscale("log")
        # A few ticks, whether sizes span one power of ten or four.
        subs = (1,) if max(sizes) > 100 * min(sizes) else (1, 2, 5)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _trials(prefix: str, search: Search, shown: Sequence[Shown]) -> Iterator[Chart]:
    """A search of two objectives that this task has trials of: a dot a trial, and the front."""
    of: Mapping[Any, Shown] = {run.path: each for each in shown for run in each.runs}
    if len(search.objectives) != 2 or not any(trial.path in of for trial in search.trials):
        return
    (upwards, _), (across, _) = search.objectives
    points = [(trial.values[1], trial.values[0]) for trial in search.trials]
    figure, axes = _canvas(told(across), told(upwards))
    for trial, (x, y), on in zip(search.trials, points, search.front, strict=True):
        colour, size = (LARGE, 7) if on else (REST, 5)
        gid = of[trial.path].of if trial.path in of else None
        axes.plot(x, y, "o", color=colour, ms=size, gid=gid)
    _draw_front(axes, points, search.front)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    goals = listed(f"{direction} {metric}" for metric, direction in search.objectives)
    best = counted(sum(search.front), "trial")
    rests = f"{len(points)} trials that ended, to {goals}; {best} on the front (dashed)."
    asked = f"What did the search “{search.name}” find?"
    tips = {of[trial.path].key: trial.name for trial in search.trials if trial.path in of}
    yield Chart(asked, svg(figure, prefix, asked, tips), rests, ())


def _lines(across: str, upwards: str, found: Curves) -> Figure:
    """A line a setting, the best in front, with a band of one standard deviation over seeds."""
    figure, axes = _canvas(across, upwards)
    for each, frame in reversed(found):
        _line(axes, each, frame)
    if across == EPOCHS:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    else:
        axes.xaxis.set_major_formatter(PercentFormatter(1))
    if upwards == CARRIED:
        axes.axhline(0.9, color=REST, **DASHED)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


def _line(axes: Axes, each: Shown, frame: pd.DataFrame) -> None:
    mean = frame.mean(axis=1)
    if frame.shape[1] > 1:
        spread = frame.std(axis=1).fillna(0)
        axes.fill_between(mean.index, mean - spread, mean + spread, color=each.colour,
                          alpha=0.15, lw=0, gid=each.of)  # fmt: skip
    mark = "o" if len(mean) < 15 else ""
    axes.plot(mean.index, mean, marker=mark, ms=3, lw=1.7, color=each.colour, gid=each.of)


def _canvas(across: str, upwards: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 3.1), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(upwards)
    axes.locator_params(nbins=5)
    return figure, axes

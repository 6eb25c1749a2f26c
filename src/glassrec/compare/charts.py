"""The charts of a comparison group, each under its question; a colour belongs to a setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from glassrec.artifacts.file_list import HISTORY, NEURONS, PRUNING_CURVES
from glassrec.compare.page_tables import SettingView, column_name
from glassrec.compare.run_comparison import ComparisonGroup, Search, limited, pareto_front
from glassrec.metrics.metadata import as_higher_is_better, best_index, sign
from glassrec.report.formatting import percent
from glassrec.report.html import SVG_TEXT, svg
from glassrec.report.run_record import RunRecord
from glassrec.report.statements import MAX_METRIC_DROP, REFERENCE, kept_share
from glassrec.report.style import INK, LARGE, QUALITATIVE, REST, STYLE
from glassrec.spelling import counted, listed

CHART_STYLE: dict[Any, Any] = {
    **STYLE, **SVG_TEXT, "font.size": 10, "axes.labelsize": 10,
    "xtick.labelsize": 9.5, "ytick.labelsize": 9.5, "path.simplify_threshold": 0.5,
}  # fmt: skip
"""Letters that can be read where a chart is as wide as a phone."""

DASHED: dict[str, Any] = {"lw": 0.9, "ls": (0, (4, 3))}

SIZES = {
    "parameters": "Which model has the best quality for its size?",
    "flops": "Which model has the best quality for its computing cost?",
}

GRID = np.linspace(0, 1, 51)
"""Shares of a layer's neurons at which curves of neurons are computed."""

MAX_NAMED = 4
"""Names in one sentence."""

EPOCHS, CUMULATIVE = "epochs of training", "cumulative share of conductance"

Point = tuple[float, float]
Curves = list[tuple[SettingView, pd.DataFrame]]
"""Settings with their curves (places, runs)."""


@dataclass(frozen=True)
class Chart:
    """A drawing, the question above it, the definition of its numbers, and its colours."""

    heading: str
    drawing: Markup
    note: str
    legend: Sequence[SettingView]


@dataclass(frozen=True)
class CurveQuestion:
    """A question that curves can answer."""

    heading: str
    across: str
    upwards: str
    note: str
    """the definition of the numbers"""
    curve: Callable[[RunRecord], pd.Series | None]
    """the curve of a run"""
    finding: Callable[[Curves], str]
    """the answer"""


def curve_questions(group: ComparisonGroup) -> Sequence[CurveQuestion]:
    """Those that the curves of a group's runs may answer."""
    quality, metric = group.default_metric, next(iter(group.shown), "")
    on_validation = metric.replace("test/", "val/", 1)
    return (
        CurveQuestion(
            "Could longer training help?", EPOCHS, quality,
            "On the validation split, after each epoch.", partial(learning, metric=quality),
            partial(learning_finding, metric=quality),
        ),
        CurveQuestion(
            "How much can be pruned before quality falls?",
            "pruned share of each layer's neurons", on_validation,
            "On the validation split; neurons of the least conductance are pruned first, and "
            "their means folded in.",
            partial(pruning, metric=on_validation), partial(pruning_finding, metric=on_validation),
        ),
        CurveQuestion(
            "How few neurons carry the prediction?", "strongest neurons of each layer", CUMULATIVE,
            "Neurons of each layer ranked by mean |conductance|, mean over layers; dashed: 90 %.",
            concentration, concentration_finding,
        ),
    )  # fmt: skip


def charts(
    prefix: str, group: ComparisonGroup, searches: Sequence[Search], views: Sequence[SettingView],
    best: Sequence[SettingView],
) -> Iterator[Chart]:  # fmt: skip
    """The charts of a group that have data; curves are drawn of the settings `best`.

    `prefix` begins all ids in the drawings; `searches` are those of all groups; `views` are the
    settings of the group.
    """
    with mpl.rc_context(CHART_STYLE):
        for metric in group.shown[:1]:
            for size, heading in SIZES.items():
                yield from _against_size(f"{prefix}-{size}", heading, views, metric, size)
        for number, search in enumerate(searches):
            yield from _trials(f"{prefix}-search{number}", search, views)
        for number, question in enumerate(curve_questions(group)):
            if found := setting_curves(best, question.curve):
                drawing = _curve_lines(question.across, question.upwards, found)
                note = f"{question.finding(found)} {question.note}{limited(group)}"
                yield _chart(f"{prefix}-curve{number}", question.heading, drawing, note,
                             [each for each, _ in found])  # fmt: skip


def _chart(
    prefix: str, heading: str, drawing: Figure, note: str, views: Sequence[SettingView]
) -> Chart:
    tips = {each.key: each.label for each in views}
    return Chart(heading, svg(drawing, prefix, heading, tips), note, views[: len(QUALITATIVE)])


def _against_size(
    prefix: str, heading: str, views: Sequence[SettingView], metric: str, size: str
) -> Iterator[Chart]:
    """Quality and size of every setting, as trained and pruned, and the front of both."""
    points = [(each, _ends(each, size, metric)) for each in views]
    every = [end for _, ends in points for end in ends]
    if not every:
        return
    drawing, axes = _canvas(column_name(size), column_name(metric))
    for each, ends in reversed(points):
        if len(ends) == 2:
            axes.plot(*zip(*ends, strict=True), color=each.colour, lw=1.2, alpha=0.7, gid=each.gid)
        # Where nothing changed, one is seen around the other.
        marks = zip(ends, "oD", (each.colour, "none"), (5, 8), strict=False)
        for (x, y), mark, fill, points_wide in marks:
            axes.plot(
                x, y, mark, color=each.colour, mfc=fill, mew=1.3, ms=points_wide, gid=each.gid
            )
    _draw_front(axes, every, pareto_front([[-x, as_higher_is_better(metric, y)] for x, y in every]))
    sizes = [x for x, _ in every]
    if 0 < 5 * min(sizes) < max(sizes):
        axes.set_xscale("log")
        # A few ticks, whether sizes span one power of ten or four.
        subs = (1,) if max(sizes) > 100 * min(sizes) else (1, 2, 5)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    note = f"{metric}, mean over seeds. ● as trained, ◇ pruned; dashed: the Pareto front."
    yield _chart(prefix, heading, drawing, note, [each for each, ends in points if ends])


def _ends(each: SettingView, size: str, metric: str) -> list[Point]:
    """Mean size and quality of the model as trained, and as pruned, as far as known."""
    mean = each.setting.mean
    found = [(mean.get(f"{p}{size}", nan), mean.get(f"{p}{metric}", nan)) for p in ("", "pruned/")]
    return [end for end in found if isfinite(sum(end))] if isfinite(sum(found[0])) else []


def _draw_front(axes: Axes, points: Sequence[Point], on_front: Sequence[bool]) -> None:
    best = sorted(point for point, on in zip(points, on_front, strict=True) if on)
    axes.plot(*zip(*best, strict=True), color=INK, zorder=0, **DASHED)


def _trials(prefix: str, search: Search, views: Sequence[SettingView]) -> Iterator[Chart]:
    """A search of two objectives that this group has trials of: a dot per trial, and the front."""
    view_of = {run.path: each for each in views for run in each.runs}
    if len(search.objectives) != 2 or not any(trial.path in view_of for trial in search.trials):
        return
    (upwards, _), (across, _) = search.objectives
    points = [(trial.values[1], trial.values[0]) for trial in search.trials]
    drawing, axes = _canvas(column_name(across), column_name(upwards))
    for trial, (x, y), on in zip(search.trials, points, search.front, strict=True):
        colour, size = (LARGE, 7) if on else (REST, 5)
        gid = view_of[trial.path].gid if trial.path in view_of else None
        axes.plot(x, y, "o", color=colour, ms=size, gid=gid)
    _draw_front(axes, points, search.front)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    goals = listed(f"{direction} {metric}" for metric, direction in search.objectives)
    best = counted(sum(search.front), "trial")
    note = f"{len(points)} finished trials, to {goals}; {best} on the Pareto front (dashed)."
    heading = f"What did the search “{search.name}” find?"
    tips = {view_of[t.path].key: t.name for t in search.trials if t.path in view_of}
    yield Chart(heading, svg(drawing, prefix, heading, tips), note, ())


def _curve_lines(across: str, upwards: str, found: Curves) -> Figure:
    """A line per setting, the best in front, with a band of one standard deviation over seeds."""
    drawing, axes = _canvas(across, upwards)
    for each, frame in reversed(found):
        mean = frame.mean(axis=1)
        if frame.shape[1] > 1:
            deviation = frame.std(axis=1).fillna(0)
            axes.fill_between(mean.index, mean - deviation, mean + deviation, color=each.colour,
                              alpha=0.15, lw=0, gid=each.gid)  # fmt: skip
        mark = "o" if len(mean) < 15 else ""
        axes.plot(mean.index, mean, marker=mark, ms=3, lw=1.7, color=each.colour, gid=each.gid)
    if across == EPOCHS:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    else:
        axes.xaxis.set_major_formatter(PercentFormatter(1))
    if upwards == CUMULATIVE:
        axes.axhline(0.9, color=REST, **DASHED)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    return drawing


def _canvas(across: str, upwards: str) -> tuple[Figure, Axes]:
    drawing = Figure(figsize=(4.4, 3.1), layout="constrained")
    axes = drawing.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(upwards)
    axes.locator_params(nbins=5)
    return drawing, axes


def setting_curves(
    views: Sequence[SettingView], curve: Callable[[RunRecord], pd.Series | None]
) -> Curves:
    """The settings of which some run has a curve, of two places or more; one would be no line."""
    found = []
    for each in views:
        ones = [one for run in each.runs if (one := curve(run)) is not None and len(one)]
        if ones and len(frame := pd.concat(ones, axis=1).sort_index()) > 1:
            found.append((each, frame))
    return found


def learning(run: RunRecord, metric: str) -> pd.Series | None:
    """A metric by epoch."""
    frame = run.table(HISTORY)
    if frame is None or metric not in frame:
        return None
    return frame.groupby("epoch")[metric].last().dropna()


def pruning(run: RunRecord, metric: str) -> pd.Series | None:
    """A metric by the pruned share of each layer, by conductance."""
    frame = run.table(PRUNING_CURVES)
    if frame is None or frame.empty or metric not in frame:
        return None
    rows = frame["score"] == REFERENCE
    for name in ("folded", "epochs"):  # the first variant
        rows &= frame[name] == frame[name].iloc[0]
    return frame[rows].groupby("share")[metric].mean().dropna()


def concentration(run: RunRecord) -> pd.Series | None:
    """The share of conductance by the share of neurons, from 0 to 1 on `GRID`, mean over layers.

    Scores of different layers do not compare, so each layer counts by its shares alone.
    """
    neurons = run.table(NEURONS)
    if neurons is None:
        return None
    found = []
    for _, size in neurons.groupby("layer")["mean_abs"]:
        sums = np.sort(size.to_numpy(float))[::-1].cumsum()
        if len(sums) and sums[-1] > 0:
            shares = np.linspace(0, 1, len(sums) + 1)
            found.append(np.interp(GRID, shares, [0, *sums / sums[-1]]))
    return pd.Series(np.mean(found, axis=0), index=GRID) if found else None


def _names(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    more = [f"{len(found) - MAX_NAMED} more"] if len(found) > MAX_NAMED else []
    return listed([*found[:MAX_NAMED], *more])


def learning_finding(found: Curves, metric: str) -> str:
    """Whether longer training might help."""
    means = [(each.label, frame.mean(axis=1)) for each, frame in found]
    still = [label for label, mean in means if best_index(metric, mean) == len(mean) - 1]
    if not still:
        return "All were best before their last epoch."
    return f"Best at the last epoch, so that more might help: {_names(still)}."


def pruning_finding(found: Curves, metric: str) -> str:
    """Up to which share every setting keeps its quality."""
    reach: dict[float, list[str]] = {}
    for each, frame in found:
        mean = frame.mean(axis=1) * sign(metric)
        reach.setdefault(kept_share(mean.iloc[0] - mean), []).append(each.label)
    far = sorted(reach, reverse=True)
    parts = [f"{percent(share, 0)} ({_names(reach[share])})" for share in far]
    if len(parts) > MAX_NAMED:
        parts = [parts[0], "…", parts[-1]]
    return f"Within {MAX_METRIC_DROP:g} of the unpruned model up to {', '.join(parts)}."


def concentration_finding(found: Curves) -> str:
    """The share of neurons with most of the conductance."""
    least = [(np.interp(0.9, frame.mean(axis=1), GRID), each.label) for each, frame in found]
    (few, first), (many, last) = min(least), max(least)
    if len(least) == 1:
        return f"90 % of the conductance is on {percent(few, 0)} of the neurons."
    return (
        f"90 % of the conductance is on {percent(few, 0)} of the neurons ({first}) to "
        f"{percent(many, 0)} ({last})."
    )

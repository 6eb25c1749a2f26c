"""The charts of a task, each under the question that it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
from markupsafe import Markup

from glassrec.compare import charts, findings
from glassrec.compare.comparison import Comparison, Task
from glassrec.compare.found import Found
from glassrec.compare.shown import Curves, Shown, carried, curves, cut, learned
from glassrec.report.page import counted
from glassrec.report.style import APART
from glassrec.spelling import listed

SIZES = {
    "parameters": "Which model is good for its size?",
    "flops": "Which model is good for what a prediction costs?",
}

LEARNING = "Would longer training help?"
CUTTING = "How much can be cut before quality falls?"
CARRYING = "How few units carry the prediction?"

BASIS = {
    LEARNING: "On the validation split, after each epoch.",
    CUTTING: "On the test split; units of least conductance go first, their means folded in.",
    CARRYING: "Units of each layer ranked by mean |conductance|, mean over layers; dashed: 90 %.",
}
"""What the numbers of a chart are."""


Asking = tuple[str, Callable[[Found], pd.Series | None], str, str, Callable[[Curves], str]]
"""A question, the curve of a run, the names of both axes, and what the curves say."""


@dataclass(frozen=True)
class Picture:
    """A chart, the question above it, what it rests on, and its colours."""

    heading: str
    picture: Markup
    rests: str
    legend: Sequence[Shown]


def pictures(
    prefix: str, comparison: Comparison, task: Task, shown: Sequence[Shown], best: Sequence[Shown]
) -> Iterator[Picture]:
    """The charts that there is something to draw for.

    Args:
        prefix: of all ids in the drawings.
        comparison: of all runs.
        task: one of its tasks.
        shown: its settings.
        best: those of which curves are drawn.
    """
    yield from _sizes(prefix, task, shown)
    yield from _searches(prefix, comparison, shown)
    quality, metric = task.quality, next(iter(task.shown), "")
    asking: Sequence[Asking] = (
        (LEARNING, partial(learned, metric=quality), charts.EPOCHS, quality,
         partial(findings.of_learning, metric=quality)),
        (CUTTING, partial(cut, metric=metric), charts.CUT, metric,
         partial(findings.of_cutting, metric=metric)),
        (CARRYING, carried, charts.UNITS, charts.CARRIED, findings.of_carrying),
    )  # fmt: skip
    for number, (asked, of, across, upwards, say) in enumerate(asking):
        found = [pair for pair in curves(best, of) if len(pair[1]) > 1]  # of one place: no line
        if found:
            drawing = charts.lines(f"{prefix}-curve{number}", asked, found, across, upwards)
            limited = "" if len(best) == len(shown) else f" The best {len(best)} settings."
            rests = f"{say(found)} {BASIS[asked]}{limited}"
            yield Picture(asked, drawing, rests, _legend([each for each, _ in found]))


def _sizes(prefix: str, task: Task, shown: Sequence[Shown]) -> Iterator[Picture]:
    """Quality against each cost that is known."""
    if not task.shown:
        return
    metric = task.shown[0]
    there = [each for each in shown if each.setting.evaluated]
    for size, asked in SIZES.items():
        picture = charts.against_size(f"{prefix}-{size}", asked, there, metric, size)
        if picture is not None:
            rests = (
                f"{metric} on the test split, mean over seeds. ● as trained, ◇ after the cut; "
                "dashed: no other is better and smaller."
            )
            yield Picture(asked, picture, rests, _legend(there))


def _searches(prefix: str, comparison: Comparison, shown: Sequence[Shown]) -> Iterator[Picture]:
    """The searches of two objectives that this task has trials of."""
    keys = {run.name: each.key for each in shown for run in each.runs}
    for number, search in enumerate(comparison.searches):
        if len(search.objectives) != 2 or not any(run.name in keys for run in search.trials):
            continue
        asked = f"What did the search “{search.name}” find?"
        goals = listed(f"{direction} {metric}" for metric, direction in search.objectives)
        front = counted(sum(search.front), "trial")
        rests = (
            f"{len(search.trials)} trials that ended, to {goals}; {front} on the front (dashed)."
        )
        picture = charts.trials(f"{prefix}-search{number}", asked, search, keys)
        yield Picture(asked, picture, rests, ())


def _legend(shown: Sequence[Shown]) -> Sequence[Shown]:
    return shown[: len(APART)]

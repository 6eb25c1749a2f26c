"""The comparison in the terminal: a table a task, and under it what the table does not say."""

from __future__ import annotations

import os
from collections.abc import Iterator

from glassrec.compare.comparison import Comparison, Search, Task
from glassrec.compare.evidence import of_task, superlative
from glassrec.compare.terminal_table import columns, fitted, lines
from glassrec.spelling import brief, counted, listed

FINE = ("finished", "running", "waiting", "stopped")
"""States of runs of which nothing is to be explained; a search stopped the last."""


def tell(
    comparison: Comparison, *, top: int, width: int | None, by: str | None = None
) -> Iterator[str]:
    """The lines to print.

    Args:
        comparison: what was found.
        top: how many settings, trials and problems are listed, at most, of each kind.
        width: letters of a line; None for a file, which takes any.
        by: the metric that was asked for, where one was.
    """
    settings = sum(len(task.settings) for task in comparison.tasks)
    said = f"{counted(len(comparison.runs), 'run')}, {counted(settings, 'setting')}"
    if len(comparison.tasks) > 1:
        said += f"; {len(comparison.tasks)} tasks, which are not ranked against each other"
    yield said
    for task in comparison.tasks:
        yield from ("", task.name, *_table(task, top, width), *_ranking(task, by))
    for search in comparison.searches:
        yield from ("", *_search(search, top))
    yield from _problems(comparison, top)


def _table(task: Task, top: int, width: int | None) -> Iterator[str]:
    kept, left_out = fitted(columns(task, top), width)
    yield from lines(kept)
    yield from _more(len(task.settings) - top, "settings.csv")
    if left_out:
        yield f"left out for want of width: {listed(left_out)}; settings.csv has them"


def _more(n: int, file: str) -> Iterator[str]:
    if n > 0:
        yield f"… and {n:,} more in {file}"


def _ranking(task: Task, by: str | None) -> Iterator[str]:
    if not task.by:
        yield "no run of it was evaluated, so there is no ranking"
    elif len(task.settings) > 1:
        why = ", which chose the epochs" if task.by == task.quality else ""
        missing = f"; it has no {by}" if by not in (None, task.by) else ""
        yield f"ranked by {task.by}{why}: {task.better}{missing}"
        yield from _verdict(task)


def _verdict(task: Task) -> Iterator[str]:
    """Whether the first setting is the best, or only has the best number."""
    if (found := of_task(task)) is None:
        return
    if found.best:
        yield f"1 is better than every other setting ({found.evidence})"
        return
    unclear = [str(task.settings.index(each) + 1) for each in found.unclear]
    yield (
        f"1 is first ({superlative(task.by).lower()} {task.by}), but not distinguishable from "
        f"{brief(unclear)} ({found.evidence})"
    )


def _search(search: Search, top: int) -> Iterator[str]:
    """The trials on the front, best in the first objective first."""
    best = [trial for trial, on in zip(search.trials, search.front, strict=True) if on]
    direction = search.objectives[0][1]
    best.sort(key=lambda trial: trial.values[0], reverse=direction == "maximize")
    trials = counted(len(search.trials), "trial")
    yield f"{search.name}: {len(best)} of {trials} on the Pareto front"
    for trial in best[:top]:
        values = zip(search.objectives, trial.values, strict=True)
        yield f"  {trial.name}  {'  '.join(f'{name} {value:.6g}' for (name, _), value in values)}"
    yield from _more(len(best) - top, "runs.csv")


def _problems(comparison: Comparison, top: int) -> Iterator[str]:
    """How many runs are in which state, if not all are finished; and why some went wrong."""
    states = comparison.states
    if {*states} == {"finished"}:
        return
    yield from ("", ", ".join(f"{n:,} {state}" for state, n in states.most_common()))
    bad = [run for run in comparison.runs if run.state not in FINE]
    for run in bad[:top]:
        problem = f": {run.problem.strip().splitlines()[0]}" if run.problem.strip() else ""
        log = f" (log: {os.path.relpath(run.log)})" if run.log is not None else ""
        yield f"  {run.name}  {run.state}{problem}{log}"
    yield from _more(len(bad) - top, "runs.csv")

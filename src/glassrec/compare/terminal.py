"""The comparison in the terminal: a table a task, and under it what the table does not say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path

from glassrec.compare.cells import columns
from glassrec.compare.comparison import Comparison, Search, Task
from glassrec.compare.explanations import agreements
from glassrec.compare.found import Found
from glassrec.compare.layout import fitted, lines
from glassrec.spelling import listed

FINE = ("finished", "running", "waiting", "stopped")
"""States of runs of which nothing is to be explained; a search stopped the last."""


def tell(
    comparison: Comparison,
    *,
    top: int,
    width: int | None,
    metrics: Sequence[str] = (),
    by: str | None = None,
) -> Iterator[str]:
    """The lines to print.

    Args:
        comparison: what was found.
        top: how many settings, trials and problems are listed, at most, of each kind.
        width: letters of a line; None for a file, which takes any.
        metrics: what to show in the place of the metrics that tell most.
        by: the metric that was asked for, where one was.
    """
    settings = sum(len(task.settings) for task in comparison.tasks)
    said = f"{_count(len(comparison.runs), 'run')}, {_count(settings, 'setting')}"
    if len(comparison.tasks) > 1:
        said += f"; {len(comparison.tasks)} tasks, which are not ranked against each other"
    yield said
    for task in comparison.tasks:
        yield ""
        yield from _task(task, top, width, metrics, by)
    for search in comparison.searches:
        yield ""
        yield from _search(search, top, width)
    yield from _problems(comparison.runs, top)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _task(
    task: Task, top: int, width: int | None, metrics: Sequence[str], by: str | None
) -> Iterator[str]:
    yield task.name
    asked, same = columns(task, top, metrics)
    kept, left_out = fitted(asked, width)
    yield from lines(kept)
    if len(task.settings) > top:
        yield f"… and {len(task.settings) - top:,} more in settings.csv"
    if left_out:
        yield f"left out for want of width: {listed(left_out)}; settings.csv has them"
    if same:
        yield f"the same after the cut, so far as shown: {listed(same)}"
    yield from _ranking(task, by)
    yield from _agreement(task)


def _ranking(task: Task, by: str | None) -> Iterator[str]:
    if not task.by:
        yield "no run of it was evaluated, so there is no ranking"
    elif len(task.settings) > 1:
        why = ", which chose the epochs" if task.by == task.quality else ""
        missing = f"; it has no {by}" if by not in (None, task.by) else ""
        yield f"ranked by {task.by}{why}: {'more' if task.sign > 0 else 'less'} is better{missing}"
        yield f"* no other setting is better in {task.quality} without being larger after the cut"


def _agreement(task: Task) -> Iterator[str]:
    for found in agreements(task)[:1]:
        pairs = [(found.between_seeds, "seeds"), (found.between_settings, "settings")]
        said = [f"{value:.2f} between {name}" for value, name in pairs if not isnan(value)]
        if said:
            players = f"{_count(len(found.importance), 'player')}, {_count(len(found.runs), 'run')}"
            yield f"importance agrees at a rank correlation of {listed(said)} ({players})"


def _search(search: Search, top: int, width: int | None) -> Iterator[str]:
    """The trials on the front, best in the first objective first."""
    best = [trial for trial, on in zip(search.trials, search.front, strict=True) if on]
    direction = search.objectives[0][1]
    best.sort(key=lambda trial: trial.values[0], reverse=direction == "maximize")
    yield f"{search.name}: {len(best)} of {_count(len(search.trials), 'trial')} on the Pareto front"
    for trial in best[:top]:
        values = zip(search.objectives, trial.values, strict=True)
        yield f"  {trial.name}  {'  '.join(f'{name} {value:.6g}' for (name, _), value in values)}"
    if len(best) > top:
        yield f"… and {len(best) - top:,} more in runs.csv"


def _problems(runs: Sequence[Found], top: int) -> Iterator[str]:
    """How many runs are in which state, if not all are finished; and why some went wrong."""
    states = Counter(sorted(run.state for run in runs))
    if set(states) == {"finished"}:
        return
    yield ""
    yield ", ".join(f"{n:,} {state}" for state, n in states.most_common())
    bad = [run for run in runs if run.state not in FINE]
    for run in bad[:top]:
        problem = f": {run.problem.strip().splitlines()[0]}" if run.problem.strip() else ""
        log = f" (log: {_near(run.log)})" if run.log is not None else ""
        yield f"  {run.name}  {run.state}{problem}{log}"
    if len(bad) > top:
        yield f"… and {len(bad) - top:,} more in runs.csv"


def _near(path: Path) -> Path:
    """A path as short as it can be said from here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

"""What a search says: a line when a trial ends, and in the end the best trials and the others."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from glassrec.progress import clock
from glassrec.sweep.objective import Objective
from glassrec.sweep.record import Job, Record
from glassrec.sweep.space import Point
from glassrec.sweep.study import Trial

SHOWN = 10
"""Of the best trials, if there is one objective; with two, all of the front."""


def label(point: Point) -> str:
    """`model=gmf,factors=16`, such that a file may be called so."""
    parts = (f"{key.rpartition('.')[2]}={_setting(value)}" for key, value in point.items())
    return re.sub(r"[^\w.,=+-]+", "_", ",".join(parts))[:80]


def done(record: Record) -> list[Job]:
    """The trials that the same command does not run again."""
    return [job for job in record.jobs if job.state in ("finished", "stopped", "failed")]


def line(job: Job, record: Record, total: int, at_once: int) -> str:
    """How a trial ended, and how far the search is."""
    ended = done(record)
    took = [each.seconds for each in ended if each.seconds is not None]
    left = clock((total - len(ended)) * fmean(took) / at_once) if took else "?"
    pairs = zip(record.objectives, job.values or (), strict=False)
    came = ", ".join(f"{each['metric']} {_number(value)}" for each, value in pairs)
    said = "; ".join(part for part in (came, job.problem) if part)
    return f"trial {job.number:<3} {job.state:<9} {said}  {job.label}  ({len(ended)} of {total}" + (
        f", about {left} left)" if len(ended) < total else ")"
    )


def summary(
    directory: Path, record: Record, best: Sequence[Trial], objectives: Sequence[Objective]
) -> Iterator[str]:
    """The lines that a search ends with.

    Args:
        directory: of the search.
        record: how each trial ended.
        best: finished trials, best first; the whole front if there are two objectives.
        objectives: what is shown of them first.
    """
    jobs = {job.number: job for job in record.jobs}
    states = [job.state for job in record.jobs]
    yield "trials    " + ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(sorted(states)))
    for job in record.jobs:
        if job.state not in ("finished", "stopped"):
            why = f"{job.problem}; see " if job.problem else ""
            yield f"{job.state:<11} trial {job.number}: {why}{directory / job.log}"
    best = [trial for trial in best if jobs[trial.number].run == f"trials/{trial.number}"]
    if not best:
        return
    metrics = " and ".join(each.metric for each in objectives)
    several = len(objectives) > 1
    yield f"{'front' if several else 'best':<9} by {metrics}" + (
        ": no trial is better in the one and no worse in the other" if several else "")  # fmt: skip
    shown = best if several else best[:SHOWN]
    yield from _table(
        ["trial", *(each.metric for each in objectives), *best[0].point, "run"],
        [[str(trial.number), *map(_number, jobs[trial.number].values or ()),
          *map(_setting, trial.point.values()), str(jobs[trial.number].run)]
         for trial in shown],
    )  # fmt: skip
    words = jobs[best[0].number].words
    yield f"again     {shlex.join(['glassrec', *words])}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) >= 10 else f"{value:.4f}"


def _setting(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

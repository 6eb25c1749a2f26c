"""How the jobs of a sweep or a search ended, as a table for the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from glassrec.progress import clock
from glassrec.sweep.record import Job, Record
from glassrec.sweep.results import told


def lines(
    directory: Path, record: Record, jobs: Sequence[Job], before: Collection[int] = ()
) -> Iterator[str]:
    """A line a job: number, label, state, time, and what it came to or where its log is.

    Args:
        directory: the sweep's.
        record: of the sweep.
        jobs: those of it that are told of, at least one.
        before: the numbers of those that were not started, as all was there.
    """
    width = max(len(job.label) for job in jobs)
    yield f"{'#':>4}  {'job':<{width}}  {'state':<11}  {'time':>7}  result"
    for job in jobs:
        state = "done before" if job.number in before else job.state
        took = "" if job.seconds is None else clock(job.seconds)
        result = told(directory, record, job)
        yield f"{job.number:>4}  {job.label:<{width}}  {state:<11}  {took:>7}  {result}".rstrip()
        if job.failed:
            yield f"{'':>4}  see {directory / job.log}"


def farewell(directory: Path) -> Iterator[str]:
    """Where all of it is."""
    yield f"results   {directory}"
    yield f"to compare them: glassrec compare {shlex.quote(str(directory))}"

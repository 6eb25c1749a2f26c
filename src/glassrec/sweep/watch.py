"""Progress of a sweep on standard error: a live line on a terminal, a line a job in a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from threading import Event, Thread
from time import time

from glassrec.progress import clock
from glassrec.sweep.job_table import result_text
from glassrec.sweep.sweep_record import Job, SweepRecord, read

UPDATE_SECONDS = 1.0
"""Time between two looks at the record."""


@contextmanager
def watched(directory: Path, total: int) -> Iterator[None]:
    """Report the progress of the jobs of the sweep in `directory`, whichever executor runs them.

    Args:
        directory: the sweep's, with its record.
        total: the number of jobs in the end; those of a search are planned one by one.
    """
    over, watch = Event(), SweepProgress(directory, total)

    def look() -> None:
        while not over.wait(UPDATE_SECONDS):
            watch.look()

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        watch.look()
        watch.clear()


class SweepProgress:
    """Reads the record of a sweep, and reports what has changed."""

    def __init__(self, directory: Path, total: int) -> None:
        self.directory, self.total = directory, total
        self.known = {job.number for job in read(directory).jobs if job.ended}
        """the jobs whose end is reported"""
        self.most = 1
        """the largest number of jobs at a time so far"""

    def look(self) -> None:
        """Report the jobs that have ended, and how many there are."""
        record = read(self.directory)
        self.most = max(self.most, sum(job.state == "running" for job in record.jobs))
        line = self._line(record.jobs)
        ended = {job.number for job in record.jobs if job.ended}
        for number in sorted(ended - self.known):
            self._report_end(record, record.jobs[number - 1], line)
        self.known = ended
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the live line."""
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _report_end(self, record: SweepRecord, job: Job, line: str) -> None:
        took = "" if job.seconds is None else f", {clock(job.seconds)}"
        result = result_text(self.directory, record, job)
        end = f"{job.state}{took}: {job.label}" + (f": {result}" if result else "")
        if not sys.stderr.isatty():
            print(f"{line}; {end}", file=sys.stderr, flush=True)
        elif job.failed or record.objectives:  # the table shows the others
            self.clear()
            print(end, file=sys.stderr, flush=True)

    def _line(self, jobs: Sequence[Job]) -> str:
        running, ended, failed = (
            sum(getattr(job, state) for job in jobs) for state in ("running", "ended", "failed")
        )
        line = f"{ended} of {self.total} done, {running} running, {failed} failed"
        left = seconds_left(jobs, self.total, self.most, time())
        return line if left is None else f"{line}, about {clock(left)} left"


def seconds_left(jobs: Sequence[Job], total: int, at_once: int, now: float) -> float | None:
    """The time that the jobs which are left will take, by the mean of those that finished.

    Args:
        jobs: those that there are.
        total: the number of jobs in the end.
        at_once: how many run at the same time.
        now: seconds since 1970.

    Returns:
        None where no job has finished, or none is left.
    """
    took = [job.seconds for job in jobs if job.state == "finished" and job.seconds is not None]
    running = [job.started for job in jobs if job.running and job.started is not None]
    waiting = total - len(running) - sum(job.ended for job in jobs)
    if not took or not (running or waiting > 0):
        return None
    each = fmean(took)
    rest = [max(each - (now - started), 0.0) for started in running] + [each] * waiting
    return max(sum(rest) / at_once, *rest)

"""How a sweep is doing, told while it runs: a live line on a terminal, a line a job in a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from threading import Event, Thread
from time import time

from glassrec.progress import clock
from glassrec.sweep.record import Job, read

EVERY = 1.0
"""Seconds between two looks at the record."""


@contextmanager
def watched(directory: Path) -> Iterator[None]:
    """Tell on standard error how the jobs of the sweep in `directory` go, whoever runs them."""
    over, watch = Event(), Watch(directory)

    def look() -> None:
        while not over.wait(EVERY):
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


class Watch:
    """Looks at the record of a sweep, and tells what has changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.waiting = {job.number for job in self._jobs() if job.state == "waiting"}
        """the jobs of which no end was told"""
        self.most = 1
        """how many have been seen to run at once"""

    def look(self) -> None:
        """Tell of jobs that have ended, and how many there are."""
        jobs = self._jobs()
        self.most = max(self.most, sum(job.state == "running" for job in jobs))
        line = self._line(jobs)
        for job in jobs:
            if job.number in self.waiting and job.state not in ("waiting", "running"):
                self.waiting.remove(job.number)
                self._tell_end(job, line)
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room where the live line was."""
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _tell_end(self, job: Job, line: str) -> None:
        took = "" if job.seconds is None else f", {clock(job.seconds)}"
        end = f"{job.state}{took}: {job.label}" + (f": {job.problem}" if job.problem else "")
        if not sys.stderr.isatty():
            print(f"{line}; {end}", file=sys.stderr, flush=True)
        elif job.failed:  # the table tells of the others
            self.clear()
            print(end, file=sys.stderr, flush=True)

    def _line(self, jobs: Sequence[Job]) -> str:
        running = [job for job in jobs if job.state == "running"]
        ended = [job for job in jobs if job.state not in ("waiting", "running")]
        failed = sum(job.failed for job in jobs)
        line = f"{len(ended)} of {len(jobs)} done, {len(running)} running, {failed} failed"
        left = seconds_left(jobs, self.most, time())
        return line if left is None else f"{line}, about {clock(left)} left"

    def _jobs(self) -> Sequence[Job]:
        record = read(self.directory)
        assert record is not None
        return record.jobs


def seconds_left(jobs: Sequence[Job], at_once: int, now: float) -> float | None:
    """The time that the jobs which are left will take, by the mean of those that finished.

    Args:
        jobs: all of the sweep.
        at_once: how many run side by side.
        now: seconds since 1970.

    Returns:
        None where no job has finished, or none is left.
    """
    took = [job.seconds for job in jobs if job.state == "finished" and job.seconds is not None]
    running = [job.started for job in jobs if job.state == "running" and job.started is not None]
    waiting = sum(job.state == "waiting" for job in jobs)
    if not took or not (running or waiting):
        return None
    each = fmean(took)
    rest = [max(each - (now - started), 0.0) for started in running] + [each] * waiting
    return max(sum(rest) / at_once, *rest)

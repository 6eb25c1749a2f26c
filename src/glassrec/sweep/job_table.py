"""How the jobs of a sweep or a search end: a live line while they run, and a table of all."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from math import nan
from pathlib import Path
from statistics import fmean
from threading import Event, Thread
from time import time

from glassrec.artifacts.file_list import LATENCY, METRICS
from glassrec.metrics.metadata import primary_metrics
from glassrec.progress import clock
from glassrec.run import SEEDS
from glassrec.sweep.sweep_record import SweepJob, SweepRecord, read


def metrics(run: Path) -> dict[str, float]:
    """The metrics in `metrics.json` and `latency.json` of a run; of many seeds, the means."""
    if (run / SEEDS).is_file():
        with (run / SEEDS).open(encoding="utf-8", newline="") as file:
            seeds = [name for name in next(csv.reader(file)) if name.startswith("seed_")]
        parts = [metrics(run / seed) for seed in seeds]
        shared = [name for name in parts[0] if all(name in part for part in parts)] if parts else []
        return {name: fmean(part[name] for part in parts) for name in shared}
    found: dict[str, float | None] = {}
    for path in (run / METRICS.name, run / LATENCY.name):
        found |= json.loads(path.read_bytes()) if path.is_file() else {}
    return {name: nan if value is None else float(value) for name, value in found.items()}


def result_text(directory: Path, record: SweepRecord, job: SweepJob) -> str:
    """The result of a job of the sweep in `directory`, or the reason of its failure.

    `val/auroc 0.7310, pruned/parameters 1,204` in a search, where that is what matters, and
    otherwise `test/auroc 0.7213, pruned 0.7213`: the primary metric, if there is any.
    """
    if job.values is not None:
        names = (objective["metric"] for objective in record.objectives)
        values = [f"{name} {_number(v)}" for name, v in zip(names, job.values, strict=True)]
        return "; ".join([", ".join(values), *filter(None, [job.problem])])
    if job.state != "finished" or not job.run:
        return job.problem
    found = metrics(directory / job.run)
    for best in primary_metrics([name for name in found if name.startswith("test/")]):
        pruned = found.get(f"pruned/{best}")
        return f"{best} {found[best]:.4f}" + ("" if pruned is None else f", pruned {pruned:.4f}")
    return ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) >= 10 else f"{value:.4f}"


def lines(
    directory: Path, record: SweepRecord, jobs: Sequence[SweepJob], before: Collection[int] = ()
) -> Iterator[str]:
    """A line for each of `jobs`: number, label, state, time, and its result or its log.

    `before` are the numbers of those that were complete before.
    """
    width = max(len(job.label) for job in jobs)
    yield f"{'#':>4}  {'job':<{width}}  {'state':<11}  {'time':>7}  result"
    for job in jobs:
        state = "done before" if job.number in before else job.state
        took = "" if job.seconds is None else clock(job.seconds)
        result = result_text(directory, record, job)
        yield f"{job.number:>4}  {job.label:<{width}}  {state:<11}  {took:>7}  {result}".rstrip()
        if job.failed:
            yield f"{'':>4}  see {directory / job.log}"


def summary_lines(directory: Path) -> Iterator[str]:
    """Where the results are, and the command that compares them."""
    yield f"results   {directory}"
    yield f"to compare them: glassrec compare {shlex.quote(str(directory))}"


UPDATE_SECONDS = 1.0
"""Time between two looks at the record."""


@contextmanager
def watched(directory: Path, total: int) -> Iterator[None]:
    """Report the progress of the `total` jobs of the sweep in `directory`, whatever runs them."""
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

    def _report_end(self, record: SweepRecord, job: SweepJob, line: str) -> None:
        took = "" if job.seconds is None else f", {clock(job.seconds)}"
        result = result_text(self.directory, record, job)
        end = f"{job.state}{took}: {job.label}" + (f": {result}" if result else "")
        if not sys.stderr.isatty():
            print(f"{line}; {end}", file=sys.stderr, flush=True)
        elif job.failed or record.objectives:  # the table shows the others
            self.clear()
            print(end, file=sys.stderr, flush=True)

    def _line(self, jobs: Sequence[SweepJob]) -> str:
        running = sum(job.state == "running" for job in jobs)
        ended, failed = sum(job.ended for job in jobs), sum(job.failed for job in jobs)
        line = f"{ended} of {self.total} done, {running} running, {failed} failed"
        left = seconds_left(jobs, self.total, self.most, time())
        return line if left is None else f"{line}, about {clock(left)} left"


def seconds_left(jobs: Sequence[SweepJob], total: int, at_once: int, now: float) -> float | None:
    """The time that the jobs which are left will take, by the mean of those that finished.

    `total` counts those of a search that are not planned yet. It is None where no job has finished,
    or none is left.
    """
    took = [job.seconds for job in jobs if job.state == "finished" and job.seconds is not None]
    running = [job.started for job in jobs if job.state == "running" and job.started is not None]
    waiting = total - len(running) - sum(job.ended for job in jobs)
    if not took or not (running or waiting > 0):
        return None
    each = fmean(took)
    rest = [max(each - (now - started), 0.0) for started in running] + [each] * waiting
    return max(sum(rest) / at_once, *rest)

"""How the jobs of a sweep ended, as a table for the terminal."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from glassrec.metrics import headline
from glassrec.progress import clock
from glassrec.run import SEEDS
from glassrec.sweep.record import Job


def lines(directory: Path, jobs: Sequence[Job], before: Collection[int]) -> Iterator[str]:
    """A line a job: number, label, state, time, and what it came to or where its log is.

    Args:
        directory: the sweep's.
        jobs: all of it.
        before: the numbers of those that were not started, as all was there.
    """
    width = max(len(job.label) for job in jobs)
    yield f"{'#':>4}  {'job':<{width}}  {'state':<11}  {'time':>7}  result"
    for job in jobs:
        state = "done before" if job.number in before else job.state
        took = "" if job.seconds is None else clock(job.seconds)
        told = result(directory / job.run) if job.state == "finished" and job.run else job.problem
        yield f"{job.number:>4}  {job.label:<{width}}  {state:<11}  {took:>7}  {told}".rstrip()
        if job.failed:
            yield f"{'':>4}  see {directory / job.log}"


def result(run: Path) -> str:
    """`test/auroc 0.7213, pruned 0.7213`: the metric that tells most, where one was computed."""
    found = metrics(run)
    for best in headline([name for name in found if name.startswith("test/")]):
        pruned = found.get(f"pruned/{best}")
        return f"{best} {found[best]:.4f}" + ("" if pruned is None else f", pruned {pruned:.4f}")
    return ""


def metrics(run: Path) -> Mapping[str, float]:
    """The metrics of a run; the means over its seeds where it has several; else nothing."""
    if (run / SEEDS).is_file():
        with (run / SEEDS).open(encoding="utf-8", newline="") as file:
            return {row["metric"]: float(row["mean"] or "nan") for row in csv.DictReader(file)}
    if (run / "metrics.json").is_file():
        found: dict[str, float] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        return {name: float("nan") if value is None else value for name, value in found.items()}
    return {}

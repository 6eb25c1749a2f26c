"""How the jobs of a sweep or a search ended, in numbers and as a table for the terminal."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Collection, Iterator, Sequence
from math import nan
from pathlib import Path
from statistics import fmean

from glassrec.artifacts.table import LATENCY, METRICS
from glassrec.metrics.metadata import primary_metrics
from glassrec.progress import clock
from glassrec.run import SEEDS
from glassrec.sweep.sweep_record import Job, SweepRecord


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


def result_text(directory: Path, record: SweepRecord, job: Job) -> str:
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
    directory: Path, record: SweepRecord, jobs: Sequence[Job], before: Collection[int] = ()
) -> Iterator[str]:
    """A line for each job: number, label, state, time, and its result or its log.

    Args:
        directory: the sweep's.
        record: of the sweep.
        jobs: those of it that are shown, at least one.
        before: the numbers of those that were complete before.
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

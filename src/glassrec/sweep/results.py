"""What runs and jobs came to, in numbers and in words."""

from __future__ import annotations

import csv
import json
from math import nan
from pathlib import Path
from statistics import fmean

from glassrec.metrics.metadata import primary_metrics
from glassrec.run import SEEDS
from glassrec.sweep.record import Job, Record


def metrics(run: Path) -> dict[str, float]:
    """What `metrics.json` and `latency.json` of a run hold; of many seeds, the means."""
    if (run / SEEDS).is_file():
        with (run / SEEDS).open(encoding="utf-8", newline="") as file:
            seeds = [name for name in next(csv.reader(file)) if name.startswith("seed_")]
        parts = [metrics(run / seed) for seed in seeds]
        shared = [name for name in parts[0] if all(name in part for part in parts)] if parts else []
        return {name: fmean(part[name] for part in parts) for name in shared}
    found: dict[str, float | None] = {}
    for path in (run / "metrics.json", run / "latency.json"):
        found |= json.loads(path.read_bytes()) if path.is_file() else {}
    return {name: nan if value is None else float(value) for name, value in found.items()}


def told(directory: Path, record: Record, job: Job) -> str:
    """What a job of the sweep in `directory` came to, or what went wrong.

    `val/auroc 0.7310, pruned/parameters 1,204` in a search, where that is what matters, and
    otherwise `test/auroc 0.7213, pruned 0.7213`: the metric that tells most, if there is any.
    """
    if job.values is not None:
        names = (objective["metric"] for objective in record.objectives)
        came = [f"{name} {_number(v)}" for name, v in zip(names, job.values, strict=True)]
        return "; ".join([", ".join(came), *filter(None, [job.problem])])
    if job.state != "finished" or not job.run:
        return job.problem
    found = metrics(directory / job.run)
    for best in primary_metrics([name for name in found if name.startswith("test/")]):
        pruned = found.get(f"pruned/{best}")
        return f"{best} {found[best]:.4f}" + ("" if pruned is None else f", pruned {pruned:.4f}")
    return ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) >= 10 else f"{value:.4f}"

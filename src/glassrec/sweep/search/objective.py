"""The objective of a search: a metric of a finished run, and its direction."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import Literal, NamedTuple, cast

from glassrec.artifacts.table import HISTORY
from glassrec.config.errors import ConfigError
from glassrec.metrics.metadata import TARGET_VALUES, sign
from glassrec.spelling import did_you_mean
from glassrec.sweep.job_table import metrics

Direction = Literal["minimize", "maximize"]
"""By Optuna's names."""


class Objective(NamedTuple):
    """A metric by its name in `metrics.json` or `latency.json`, and which way it is better."""

    metric: str
    direction: Direction

    @property
    def each_epoch(self) -> bool:
        """Whether training reports it after each epoch."""
        return self.metric.startswith("val/")

    def merit(self, value: float) -> float:
        """A number of which more is better."""
        return value if self.direction == "maximize" else -value


def objective(text: str) -> Objective:
    """The objective that `METRIC` or `METRIC:minimize` names.

    Raises:
        ConfigError: it is of the test split, or it is not known which way it is better.
    """
    metric, colon, direction = text.partition(":")
    if "test" in metric.split("/"):
        near = "/".join("val" if part == "test" else part for part in metric.split("/"))
        raise ConfigError(
            f"--objective: {metric} is of the test split, which judges what a search has found and "
            f"must not guide it; take {near}"
        )
    if colon and direction not in ("minimize", "maximize"):
        raise ConfigError(f"--objective: {text!r} must end in :minimize or :maximize")
    return Objective(metric, cast(Direction, direction) if colon else _direction(metric))


def _direction(metric: str) -> Direction:
    if sign(metric) < 0:
        return "minimize"
    quality = "val" in metric.split("/") and metric.rpartition("/")[2] not in TARGET_VALUES
    if quality or metric == "pruned/units":
        return "maximize"
    known = [name for cost in TARGET_VALUES for name in (cost, f"pruned/{cost}")]
    raise ConfigError(
        f"--objective: which way is {metric} better? Write {metric}:minimize or "
        f"{metric}:maximize{did_you_mean(metric, [*known, 'pruned/units'])}"
    )


def values(directory: Path, objectives: Sequence[Objective], stage: str) -> list[float]:
    """What a run came to, an objective each; the mean over the seeds where there are several.

    Raises:
        ValueError: it has no such metric, or it is not a number.
    """
    runs = sorted(directory.glob("seed_*")) or [directory]
    return [fmean(_value(run, each, stage) for run in runs) for each in objectives]


def _value(run: Path, objective: Objective, stage: str) -> float:
    found = _best_epoch(run, objective) if stage == "train" else metrics(run)
    if objective.metric not in found:
        near = did_you_mean(objective.metric, found)
        raise ValueError(
            f"--objective: {run} has no metric {objective.metric!r}{near}; it has "
            f"{', '.join(name for name in found if 'test' not in name.split('/')) or 'none'}"
        )
    if isnan(found[objective.metric]):
        raise ValueError(f"{objective.metric} is not a number")
    return found[objective.metric]


def _best_epoch(run: Path, objective: Objective) -> dict[str, float]:
    """The row of the epoch that was kept: the objective is what selects it."""
    with (run / HISTORY.name).open(encoding="utf-8", newline="") as file:
        rows = [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]
    known = [row for row in rows if not isnan(row.get(objective.metric, nan))]
    best = max(known, key=lambda row: objective.merit(row[objective.metric]), default={})
    return best or next(iter(rows), {})

"""The space of a search, as Optuna takes it, and its objectives: metrics of a finished run."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import Literal, NamedTuple, cast

from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from glassrec.artifacts.file_list import HISTORY
from glassrec.config import compose
from glassrec.config.errors import ConfigError
from glassrec.config.overrides import options_of_groups, parse
from glassrec.metrics.metadata import TARGET_VALUES, sign
from glassrec.spelling import did_you_mean
from glassrec.sweep.job_table import metrics

Point = Mapping[str, str | int | float]
"""A value for each dimension, by its key; of a categorical one, the text after the `=`."""


@dataclass(frozen=True)
class Space:
    """The overrides of a search: those that all trials share, and the dimensions."""

    fixed: tuple[str, ...]
    dimensions: dict[str, BaseDistribution]

    @classmethod
    def read(cls, words: Sequence[str], extra: Path | None = None) -> Space:
        """The space that overrides span: several values, `range` and `interval` are a dimension.

        Raises:
            ConfigError: the overrides cannot be read, or leave nothing to search.
        """
        overrides = parse(words)
        known = options_of_groups(extra)
        dimensions: dict[str, BaseDistribution] = {}
        for override in overrides:
            key = override.get_key_element()
            _refuse(override, twice=key in dimensions)
            if override.is_sweep_override():
                dimensions[key] = _dimension(override, known.get(override.key_or_group, []))
        if not dimensions:
            raise ConfigError(
                "there is nothing to search: give a setting several values, e.g. model=gmf,mlp or "
                "optimizer.lr='tag(log,interval(1e-4,1e-2))'"
            )
        fixed = (each.input_line for each in overrides if not each.is_sweep_override())
        return cls(tuple(map(str, fixed)), dimensions)

    def words(self, point: Point) -> list[str]:
        """The overrides of the trial at a point."""
        return [*self.fixed, *(f"{key}={value}" for key, value in point.items())]

    @property
    def first(self) -> Point:
        """Of each dimension the first value, or the lower end."""
        return {key: _ends(dimension)[0] for key, dimension in self.dimensions.items()}

    def check(self, stage: str, extra: Path | None = None) -> None:
        """Compose every value and both ends of every range; ConfigError with all that is wrong."""
        problems: dict[str, None] = {}
        points = [self.first]
        for key, dimension in self.dimensions.items():
            points += [{**self.first, key: value} for value in _ends(dimension)[1:]]
        for point in points:
            try:
                compose.prepare(stage, self.words(point), extra)
            except ConfigError as error:
                problems |= dict.fromkeys(error.problems)
        if problems:
            raise ConfigError(*problems)


def _refuse(override: Override, *, twice: bool) -> None:
    line = override.input_line
    if override.key_or_group == "run.dir":
        raise ConfigError(f"{line}: each trial has a directory of its own; say --dir=DIR")
    if override.is_hydra_override():
        raise ConfigError(f"{line}: a search has no settings of Hydra's; leave it out")
    if twice:
        raise ConfigError(f"{line}: {override.key_or_group} is there twice")


def _dimension(override: Override, known: Sequence[str]) -> BaseDistribution:
    value, line = override.value(), str(override.input_line)
    try:
        if isinstance(value, IntervalSweep):
            return _numbers(value, value.start, value.end, None)
        if isinstance(value, RangeSweep):
            numbers = sorted(value.range())
            return _numbers(value, numbers[0], numbers[-1], abs(value.step))
    except (ValueError, IndexError) as error:
        why = "it is empty" if isinstance(error, IndexError) else error
        raise ConfigError(f"{line}: {why}") from None
    # Sorted, as a resumed search must find them as they were, also where they are shuffled.
    texts = value.filter(list(known)) if isinstance(value, Glob) else sorted(
        set(override.sweep_string_iterator()))  # fmt: skip
    if not texts:
        raise ConfigError(f"{line}: no option matches (choices: {', '.join(known)})")
    return CategoricalDistribution(texts)


def _numbers(
    sweep: IntervalSweep | RangeSweep, low: float | None, high: float | None, step: float | None
) -> BaseDistribution:
    """From `low` to `high`, both included; integers where both are."""
    assert low is not None
    assert high is not None
    if strange := sweep.tags - {"log"}:
        tag = min(strange)
        raise ValueError(f"{tag!r} is no tag{did_you_mean(tag, ['log'])}; the only one is log")
    log = "log" in sweep.tags
    if isinstance(low, int) and isinstance(high, int) and not isinstance(step, float):
        return IntDistribution(low, high, log=log, step=step or 1)
    if step is not None:  # Hydra adds up steps, and 0.1 + 0.2 is 0.30000000000000004
        low, high = float(f"{low:.12g}"), float(f"{high:.12g}")
    return FloatDistribution(low, high, log=log, step=step)


def _ends(dimension: BaseDistribution) -> list[str | int | float]:
    if isinstance(dimension, CategoricalDistribution):
        return [str(choice) for choice in dimension.choices]
    assert isinstance(dimension, IntDistribution | FloatDistribution)
    return [dimension.low, dimension.high]


Direction = Literal["minimize", "maximize"]
"""By Optuna's names."""


class SearchObjective(NamedTuple):
    """A metric by its name in `metrics.json` or `latency.json`, and which way it is better."""

    metric: str
    direction: Direction

    def merit(self, value: float) -> float:
        """A number of which more is better."""
        return value if self.direction == "maximize" else -value


def objective(text: str) -> SearchObjective:
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
    return SearchObjective(metric, cast(Direction, direction) if colon else _direction(metric))


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


def values(directory: Path, objectives: Sequence[SearchObjective], stage: str) -> list[float]:
    """What a run came to, an objective each; the mean over the seeds where there are several.

    Raises:
        ValueError: it has no such metric, or it is not a number.
    """
    runs = sorted(directory.glob("seed_*")) or [directory]
    return [fmean(_value(run, each, stage) for run in runs) for each in objectives]


def _value(run: Path, objective: SearchObjective, stage: str) -> float:
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


def _best_epoch(run: Path, objective: SearchObjective) -> dict[str, float]:
    """The row of the epoch that was kept: the objective is what selects it."""
    with (run / HISTORY.name).open(encoding="utf-8", newline="") as file:
        rows = [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]
    known = [row for row in rows if not isnan(row.get(objective.metric, nan))]
    best = max(known, key=lambda row: objective.merit(row[objective.metric]), default={})
    return best or next(iter(rows), {})

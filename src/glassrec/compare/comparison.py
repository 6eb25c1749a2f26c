"""Runs side by side: those of one task are ranked, those that differ in their seed alone are one.

Runs of other data, or of other metrics, are another task. They are never ranked against each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glassrec.compare.differences import fingerprint, labels, said, varying
from glassrec.compare.directory import Found
from glassrec.compare.evidence import relevant
from glassrec.compare.task import Key, default_metric, keys, titles
from glassrec.metrics.metadata import as_higher_is_better, sign
from glassrec.spelling import did_you_mean

MOST = 30
"""Settings of a task, the best ones, whose curves, explanations and certificates are told."""


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that differ in their seed alone, or in what no metric depends on, and their moments.

    Several runs of one seed count as one, with their mean.
    """

    differs: dict[str, Any]
    """the settings that vary within the task, by dotted name; none that it does not have"""
    runs: list[Found]
    mean: dict[str, float]
    std: dict[str, float]
    """of a sample; NaN where there is one run"""
    n: dict[str, int]
    """how many seeds have the metric; smaller where it is not a number in some of them"""

    def value(self, name: str) -> str:
        """What it is set to; nothing where it does not have the setting."""
        return said(self.differs[name]) if name in self.differs else ""

    @property
    def notes(self) -> list[str]:
        """What is not as it should be: `1 failed`, `2 not evaluated`."""
        found = Counter(
            run.state if run.state != "finished" else "not evaluated"
            for run in self.runs
            if run.state != "finished" or not run.evaluated
        )
        return [f"{n} {what}" for what, n in found.items()]


@dataclass(frozen=True, eq=False)
class Task:
    """Settings that can be ranked against each other: same data, same targets, same metrics."""

    name: str
    labels: dict[str, str]
    """the settings that vary, dotted, and what they are called for short"""
    by: str
    """the metric that ranks; empty where no run has been evaluated"""
    shown: list[str]
    """the metrics of the test split that tell most, as `test/NAME`, and those asked for"""
    settings: list[Setting]
    """best first; those that have no value of `by` are last"""

    @property
    def runs(self) -> list[Found]:
        """All runs, those of the best setting first."""
        return [run for setting in self.settings for run in setting.runs]

    @property
    def better(self) -> str:
        """Which way `by` is better."""
        return "more is better" if sign(self.by) > 0 else "less is better"

    @cached_property
    def quality(self) -> str:
        """The metric that `by` is unless another one was asked for."""
        return default_metric(self.runs)

    def ranked(self, setting: Setting) -> bool:
        """Whether a setting has a place, or only stands below those that have."""
        return not isnan(setting.mean.get(self.by, nan))


@dataclass(frozen=True, eq=False)
class Search:
    """The trials of a search, in their order, and which of them nothing dominates."""

    name: str
    objectives: tuple[tuple[str, str], ...]
    """each metric, and `minimize` or `maximize`"""
    trials: list[Found]
    """those that came to values"""

    @cached_property
    def front(self) -> list[bool]:
        """Which trials are on the Pareto front; with one objective, the best."""
        signs = [1 if direction == "maximize" else -1 for _, direction in self.objectives]
        return front([[s * v for s, v in zip(signs, t.values, strict=True)] for t in self.trials])


@dataclass(frozen=True, eq=False)
class Comparison:
    """All that was found."""

    runs: list[Found]
    labels: dict[str, str]
    """the settings that vary over all runs, dotted, and what they are called for short"""
    tasks: list[Task]
    """the largest first"""
    strays: list[Found]
    """what belongs to no task, as its settings are not known: jobs without a directory, damage"""

    @property
    def states(self) -> Counter[str]:
        """How many runs are in each state."""
        return Counter(sorted(run.state for run in self.runs))

    @cached_property
    def searches(self) -> list[Search]:
        """The searches among the sweeps."""
        trials: dict[Path, list[Found]] = {}
        for run in self.runs:
            if run.sweep and run.objectives and len(run.values) == len(run.objectives):
                trials.setdefault(run.sweep, []).append(run)
        return [Search(path.name, found[0].objectives, found) for path, found in trials.items()]


def compare(
    runs: Sequence[Found], by: str | None = None, metrics: Sequence[str] = ()
) -> Comparison:
    """Rank runs by a metric, by default the one on validation that chose their best epochs.

    Args:
        runs: from `scan`.
        by: a metric, as the files of the runs have it; tasks without it keep their own.
        metrics: to be shown beside those that tell most.

    Raises:
        ValueError: no run has the metric `by`, or one of `metrics`.
    """
    known = dict.fromkeys(name for run in runs for name in run.metrics)
    for metric in (*metrics, *([] if by is None else [by])):
        if metric not in known:
            more = did_you_mean(metric, known) or f"; there are {', '.join(known) or 'none'}"
            raise ValueError(f"no run has the metric {metric!r}{more}")
    runs = [replace(run, settings=relevant(run.settings, by or "")) for run in runs]
    grouped = keys([run for run in runs if run.settings])
    named = titles(list(grouped))
    tasks = [_task(named[key], key, found, by, metrics) for key, found in grouped.items()]
    return Comparison(
        list(runs),
        labels(varying(runs)),
        sorted(tasks, key=lambda task: -len(task.runs)),
        [run for run in runs if not run.settings],
    )


def _task(name: str, key: Key, runs: list[Found], by: str | None, metrics: Sequence[str]) -> Task:
    names, there = varying(runs), {metric for run in runs for metric in run.metrics}
    chosen = by if by is not None and by in there else default_metric(runs)
    settings = sorted(_settings(names, runs), key=lambda setting: _place(setting, chosen))
    telling = [f"test/{metric}" for metric in key.metrics]
    shown = [*dict.fromkeys([*telling, *(each for each in metrics if each in there)])]
    return Task(name, labels(names), chosen, shown, settings)


def _place(setting: Setting, by: str) -> tuple[bool, float]:
    value = as_higher_is_better(by, setting.mean.get(by, nan))
    return isnan(value), -value


def _settings(names: Sequence[str], runs: Sequence[Found]) -> Iterator[Setting]:
    groups: dict[str, list[Found]] = {}
    for run in runs:
        groups.setdefault(fingerprint(run.settings), []).append(run)
    for same, moments in zip(groups.values(), _moments([*groups.values()]), strict=True):
        first = same[0].settings
        differs = {name: first[name] for name in names if name in first}
        yield Setting(differs, sorted(same, key=_by_seed), *moments)


def _by_seed(run: Found) -> tuple[bool, int]:
    return run.seed is None, run.seed or 0


def _moments(groups: Sequence[Sequence[Found]]) -> Iterator[Sequence[dict[Any, Any]]]:
    """Mean, standard deviation and count of each metric that a group has, a group each."""
    runs = [run for same in groups for run in same]
    place = np.repeat(np.arange(len(groups)), [len(same) for same in groups])
    seeds = [f"run {n}" if run.seed is None else run.seed for n, run in enumerate(runs)]
    values = pd.DataFrame([run.metrics for run in runs])
    one_a_seed = values.groupby([place, np.array(seeds, dtype=object)], sort=False).mean()
    grouped = one_a_seed.groupby(level=0)
    found = [grouped.mean(), grouped.std(), grouped.count()]
    for rows in zip(*(moment.to_dict("records") for moment in found), strict=True):
        yield [{name: row[name] for name, n in rows[2].items() if n} for row in rows]


def front(merits: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each of n points, by k merits of which more is better, is on the Pareto front.

    A point is dominated by one that is nowhere worse and somewhere better: equal points are both on
    it. One with a merit that is not a number is not.
    """
    points = np.array(merits, dtype=float)
    if not points.size:
        return [False] * len(points)
    no_worse = (points[:, None] >= points).all(2)  # (n, n): row against column
    better = (points[:, None] > points).any(2)
    dominated = (no_worse & better).any(0)
    return [bool(each) for each in ~dominated & ~np.isnan(points).any(1)]

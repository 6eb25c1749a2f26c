"""Runs side by side: runs that differ only in their seed are one setting, and settings are ranked.

Runs of other data, or with other metrics, form another group, which is never ranked against this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glassrec.artifacts.file_list import HISTORY
from glassrec.compare.setting_names import fingerprint, relevant, short_names, value_text, varying
from glassrec.metrics.metadata import MONITORED, as_higher_is_better, primary_metrics
from glassrec.report.run_record import RunRecord
from glassrec.spelling import did_you_mean

MAX_DETAILED = 30
"""The best settings of a group, whose curves, explanations and certificates are shown."""

LEARNING = ("negatives", "history", "min_count")
"""Settings of data that matter for training, not for evaluation."""

_WEIGHTS, LEVEL = "objective.weights.", "prune.level"


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that differ only in their seed, or in what no metric depends on, and their moments.

    Several runs with one seed count as one, with their mean.
    """

    differs: dict[str, Any]
    """the settings that vary within the group, by dotted name; none that it does not have"""
    runs: list[RunRecord]
    mean: dict[str, float]
    std: dict[str, float]
    """of a sample; NaN where there is one run"""
    n: dict[str, int]
    """the number of seeds with the metric; smaller where it is not a number in some of them"""

    def value(self, name: str) -> str:
        """The value of a setting as text; nothing where it does not have the setting."""
        return value_text(self.differs[name]) if name in self.differs else ""

    def interval(self, metric: str) -> tuple[float, float] | None:
        """The 95 % interval of a metric over rows, lists or users; None of several seeds."""
        ends = [self.mean.get(f"{metric}_{end}", nan) for end in ("low", "high")]
        return None if self.n.get(metric) != 1 or isnan(ends[0]) else (ends[0], ends[1])

    @property
    def notes(self) -> list[str]:
        """Runs without results: `1 failed`, `2 not evaluated`."""
        found = Counter(
            run.state if run.state != "finished" else "not evaluated"
            for run in self.runs
            if run.state != "finished" or not run.evaluated
        )
        return [f"{n} {state}" for state, n in found.items()]


@dataclass(frozen=True, eq=False)
class ComparisonGroup:
    """Settings that can be ranked against each other: same data, same targets, same metrics."""

    name: str
    labels: dict[str, str]
    """the settings that vary, dotted, with their short names"""
    by: str
    """the metric that ranks; empty where no run has been evaluated"""
    shown: list[str]
    """the primary metrics of the test split, as `test/NAME`, and the requested ones"""
    settings: list[Setting]
    """best first; those without a value of `by` are last"""

    @property
    def runs(self) -> list[RunRecord]:
        """All runs, those of the best setting first."""
        return [run for setting in self.settings for run in setting.runs]

    @cached_property
    def default_metric(self) -> str:
        """The metric that ranks unless another one is requested."""
        return default_metric(self.runs)

    def is_ranked(self, setting: Setting) -> bool:
        """Whether a setting has a rank."""
        return not isnan(setting.mean.get(self.by, nan))


@dataclass(frozen=True, eq=False)
class Search:
    """The trials of a search, in their order."""

    name: str
    objectives: tuple[tuple[str, str], ...]
    """each metric, and `minimize` or `maximize`"""
    trials: list[RunRecord]
    """those with values"""

    @cached_property
    def front(self) -> list[bool]:
        """Which trials are on the Pareto front; with one objective, the best."""
        signs = [1 if direction == "maximize" else -1 for _, direction in self.objectives]
        values = [[s * v for s, v in zip(signs, t.values, strict=True)] for t in self.trials]
        return pareto_front(values)


@dataclass(frozen=True, eq=False)
class RunComparison:
    """All runs, and their groups."""

    runs: list[RunRecord]
    labels: dict[str, str]
    """the settings that vary over all runs, dotted, with their short names"""
    groups: list[ComparisonGroup]
    """the largest first"""
    ungrouped: list[RunRecord]
    """runs without known settings: jobs without a directory, damaged runs"""

    @property
    def states(self) -> Counter[str]:
        """The number of runs in each state."""
        return Counter(sorted(run.state for run in self.runs))

    @cached_property
    def searches(self) -> list[Search]:
        """The searches among the sweeps."""
        trials: dict[Path, list[RunRecord]] = {}
        for run in self.runs:
            if run.sweep and run.objectives and len(run.values) == len(run.objectives):
                trials.setdefault(run.sweep, []).append(run)
        return [Search(path.name, found[0].objectives, found) for path, found in trials.items()]


def compare(
    runs: Sequence[RunRecord], by: str | None = None, metrics: Sequence[str] = ()
) -> RunComparison:
    """Rank runs, as from `scan`, by a metric, by default the one that selected their best epochs.

    Groups without the metric `by` keep their own; `metrics` are shown beside the primary metrics.

    Raises:
        ValueError: no run has the metric `by`, or one of `metrics`.
    """
    known = dict.fromkeys(name for run in runs for name in run.metrics)
    for metric in (*metrics, *([] if by is None else [by])):
        if metric not in known:
            more = did_you_mean(metric, known) or f"; there are {', '.join(known) or 'none'}"
            raise ValueError(f"no run has the metric {metric!r}{more}")
    runs = [
        replace(run, settings=relevant(run.settings, by or ("pruned/" if run.run else "")))
        for run in runs
    ]
    grouped = _by_key([run for run in runs if run.settings])
    groups = [
        _group(_group_name(key, grouped), key, found, by, metrics) for key, found in grouped.items()
    ]
    return RunComparison(
        list(runs),
        short_names(varying(runs)),
        sorted(groups, key=lambda group: -len(group.runs)),
        [run for run in runs if not run.settings],
    )


def _group(
    name: str, key: _Key, runs: list[RunRecord], by: str | None, metrics: Sequence[str]
) -> ComparisonGroup:
    names, inner = _outer_and_inner(varying(runs), runs)
    there = {metric for run in runs for metric in run.metrics}
    chosen = by if by is not None and by in there else default_metric(runs)
    settings = sorted(_settings(names, inner, runs), key=lambda setting: _rank_key(setting, chosen))
    primary = [f"test/{metric}" for metric in key.metrics]
    shown = [*dict.fromkeys([*primary, *(each for each in metrics if each in there)])]
    return ComparisonGroup(name, short_names(names), chosen, shown, settings)


def _rank_key(setting: Setting, by: str) -> tuple[bool, float]:
    value = as_higher_is_better(by, setting.mean.get(by, nan))
    return isnan(value), -value


def _outer_and_inner(
    names: Sequence[str], runs: Sequence[RunRecord]
) -> tuple[list[str], list[str]]:
    """Settings with a column, and those of pruning that only some levels have.

    The latter are shown with the level: a column of their own would be empty for the others.
    """
    inner = [n for n in names if n.startswith("prune.") and LEVEL in names and n != LEVEL]
    inner = [n for n in inner if not all(n in run.settings for run in runs)]
    return [name for name in names if name not in inner], inner


def _settings(
    names: Sequence[str], inner: Sequence[str], runs: Sequence[RunRecord]
) -> Iterator[Setting]:
    labels = short_names(inner)
    alike: dict[str, list[RunRecord]] = {}
    for run in runs:
        alike.setdefault(fingerprint(run.settings), []).append(run)
    for same, moments in zip(alike.values(), _moments([*alike.values()]), strict=True):
        first = same[0].settings
        differs = {name: first[name] for name in names if name in first}
        own = [f"{labels[name]} {value_text(first[name])}" for name in inner if name in first]
        if own:
            differs[LEVEL] = f"{first[LEVEL]} ({', '.join(own)})"
        by_seed = sorted(same, key=lambda run: (run.seed is None, run.seed or 0))
        yield Setting(differs, by_seed, *moments)


def _moments(alike: Sequence[Sequence[RunRecord]]) -> Iterator[Sequence[dict[Any, Any]]]:
    runs = [run for same in alike for run in same]
    place = np.repeat(np.arange(len(alike)), [len(same) for same in alike])
    seeds = [run.repetition or f"run {n}" for n, run in enumerate(runs)]
    values = pd.DataFrame([run.metrics for run in runs])
    one_per_seed = values.groupby([place, np.array(seeds, dtype=object)], sort=False).mean()
    grouped = one_per_seed.groupby(level=0)
    found = [grouped.mean(), grouped.std(), grouped.count()]
    for rows in zip(*(moment.to_dict("records") for moment in found), strict=True):
        yield [{name: row[name] for name, n in rows[2].items() if n} for row in rows]


@dataclass(frozen=True)
class _Key:
    data: str
    settings: tuple[tuple[str, str], ...]
    """those of the data that vary among all runs, without `LEARNING`"""
    files: str
    """the hashes of the data's files"""
    untrained: tuple[str, ...]
    """targets whose weight in the loss is 0"""
    metrics: tuple[str, ...]
    """the primary metrics, without the split; none of a run that was not evaluated"""
    cuts: str = ""
    """of cuts, which are ranked as pruned, and beside no run: their name in that of the group"""


def _by_key(runs: Sequence[RunRecord]) -> dict[_Key, list[RunRecord]]:
    """Runs by group. One without metrics joins those that agree in all that is known."""
    parts = [(name, name.split(".")) for name in varying(runs)]
    names = [n for n, part in parts if part[0] == "data" and part[-1] not in LEARNING]
    found: dict[_Key, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: not run.evaluated):
        tests = [name.removeprefix("test/") for name in run.metrics if name.startswith("test/")]
        data = str(run.settings.get("data", "unknown data"))
        own = ((name, value_text(run.settings[name])) for name in names if name in run.settings)
        metrics = tuple(primary_metrics(tests))
        cuts = "" if run.run is None else "cuts"
        key = _Key(data, tuple(own), run.data_files, _untrained(run), metrics, cuts)
        if not key.metrics:
            key = next((other for other in found if _agrees(key, other)), key)
        found.setdefault(key, []).append(run)
    return found


def _untrained(run: RunRecord) -> tuple[str, ...]:
    zero = (name for name, weight in run.settings.items() if weight == 0)
    return tuple(sorted(n.removeprefix(_WEIGHTS) for n in zero if n.startswith(_WEIGHTS)))


def _agrees(bare: _Key, other: _Key) -> bool:
    return replace(bare, metrics=other.metrics, files=bare.files or other.files) == other


def _group_name(key: _Key, keys: Iterable[_Key]) -> str:
    """Its data, and the differences to other groups of the same data."""
    parts = {
        "settings": [f"{name.removeprefix('data.')}={value}" for name, value in key.settings
                     if name != "data"],
        "files": [f"files {sha256(key.files.encode()).hexdigest()[:6]}"
                  if key.files else "no files"],
        "untrained": [f"without {', '.join(key.untrained)}" if key.untrained else "all targets"],
        "metrics": [", ".join(key.metrics) or "not evaluated"],
        "cuts": [key.cuts or "runs"],
    }  # fmt: skip
    others = [other for other in keys if other.data == key.data]
    differ = [name for name in parts if len({getattr(other, name) for other in others}) > 1]
    words = [word for name in differ for word in parts[name]]
    return f"{key.data} ({'; '.join(words)})" if words else key.data


def default_metric(runs: Iterable[RunRecord]) -> str:
    """The metric that selected the best epochs, of cuts that of the pruned models; or nothing."""
    runs = [*runs]
    found = _selecting(runs)
    return f"pruned/{found}" if found and all(run.run for run in runs) else found


def _selecting(runs: Sequence[RunRecord]) -> str:
    found = [run for run in runs if any(name.startswith("val/") for name in run.metrics)]
    evaluated = [run for run in found if run.evaluated] or found
    if not evaluated:
        return ""
    monitor = evaluated[0].settings.get("trainer.monitor")
    same = all(run.settings.get("trainer.monitor") == monitor for run in evaluated)
    if same and all(monitor in [*run.metrics] for run in evaluated):
        return str(monitor)
    return _first_monitored(evaluated[0])


def _first_monitored(run: RunRecord) -> str:
    """By the first target that is trained, in the order of its data, which the history keeps."""
    history = run.table(HISTORY)
    columns: list[Any] = list(run.metrics if history is None else history)
    names = [name.removeprefix("val/") for name in columns if name.startswith("val/")]
    untrained = _untrained(run)
    for target in dict.fromkeys(name.rpartition("/")[0] for name in names):
        prefix = f"{target}/" if target else ""
        monitored = [f"val/{prefix}{metric}" for metric in MONITORED if prefix + metric in names]
        if monitored and target not in untrained:
            return monitored[0]
    return next((name for name in run.metrics if name.startswith("val/")), "")


def pareto_front(values: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each of n points, by k values for which higher is better, is on the Pareto front.

    A point is dominated by one that is nowhere worse and somewhere better: equal points are both on
    it. One with a value that is not a number is not.
    """
    points = np.array(values, dtype=float)
    if not points.size:
        return [False] * len(points)
    no_worse = (points[:, None] >= points).all(2)  # (n, n): row against column
    better = (points[:, None] > points).any(2)
    dominated = (no_worse & better).any(0)
    return [bool(each) for each in ~dominated & ~np.isnan(points).any(1)]


def limited(group: ComparisonGroup, most: int = MAX_DETAILED, count: int | None = None) -> str:
    """A note where only the best settings (of `count`, by default all) are shown."""
    count = len(group.settings) if count is None else count
    return f" The first {most} of {len(group.settings)} settings." if count > most else ""


def paired(settings: Mapping[str, Any]) -> str:
    """`model=mlp model.factors=8`, as the filter of the page finds it."""
    pairs = ((name, value_text(value)) for name, value in settings.items())
    return " ".join(f"{name}={''.join(value.split())}" for name, value in pairs)

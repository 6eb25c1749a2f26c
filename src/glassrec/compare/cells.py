"""The columns of a task's table: rank, what varies, quality, cost, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan, nan

from glassrec.compare.comparison import Setting, Task
from glassrec.compare.differences import said
from glassrec.compare.found import PROVEN
from glassrec.compare.layout import Column

COSTS = (
    ("parameters", "parameters", ",.0f", 2),
    ("flops", "FLOPs", ",.0f", 4),
    ("latency_p50_4096", "ms of 4,096", ".2f", 5),
)
"""Metric, heading, form, and how soon it is left out for want of width: the larger the sooner."""

SECOND, VALIDATION, SETTINGS = 6, 3, 7


def columns(task: Task, top: int, metrics: Sequence[str]) -> tuple[list[Column], list[str]]:
    """All columns for the best settings, and the metrics whose values after the cut look the same.

    Args:
        task: whose settings they are.
        top: how many of them.
        metrics: what to show in the place of the test metrics that tell most.
    """
    shown = task.settings[:top]
    found = [_ranks(task, shown), *_settings(task, shown)]
    found.append(Column("runs", [str(len(setting.runs)) for setting in shown]))
    if task.by not in ("", *(metrics or task.shown)):
        found.append(_moments(task.by, shown, 0 if metrics else VALIDATION))
    same: list[str] = []
    if metrics:
        found += [_moments(name, shown) for name in metrics]
    else:
        quality, same = _quality(task, shown)
        found += [*quality, *(_change(*cost, shown) for cost in COSTS)]
        found.append(Column("proven", [_share(setting) for setting in shown]))
    found.append(Column("", [", ".join(setting.notes) for setting in shown], right=False))
    return [column for column in found if any(column.cells)], same


def _quality(task: Task, shown: Sequence[Setting]) -> tuple[list[Column], list[str]]:
    """The metrics that tell most, as trained and where it is another after the cut."""
    found, same = [], []
    for place, name in enumerate(task.shown):
        priority = SECOND if place else 0
        before, after = (_moments(each, shown, priority) for each in (name, f"pruned/{name}"))
        found.append(before)
        if after.cells == before.cells:
            same.append(name)
        else:
            found.append(after)
    return found, same


def _ranks(task: Task, shown: Sequence[Setting]) -> Column:
    front = task.pareto(task.quality)
    cells = [
        f"{place + 1}{'*' if front[place] else ' '}" if task.ranked(setting) else "–"
        for place, setting in enumerate(shown)
    ]
    return Column("", cells)


def _settings(task: Task, shown: Sequence[Setting]) -> Iterator[Column]:
    """What varies among the settings; those named last are the first to be left out."""
    for place, (name, label) in enumerate(task.labels.items()):
        cells = [said(each.differs[name]) if name in each.differs else "" for each in shown]
        numbers = all(_is_number(each.differs[name]) for each in shown if name in each.differs)
        yield Column(label, cells, right=numbers, priority=SETTINGS + place if place > 2 else 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _moments(name: str, shown: Sequence[Setting], priority: int = 0) -> Column:
    """Mean and standard deviation over the runs of each setting."""
    means = [setting.mean.get(name, nan) for setting in shown]
    spreads = [setting.std.get(name, nan) for setting in shown]
    whole = any(abs(mean) >= 1000 for mean in means)
    form, least = (",.0f", 0.5) if whole else (".4f", 0.0)
    said = [f" ± {spread:{form}}" if spread >= least else "" for spread in spreads]
    width = max(map(len, said), default=0)
    cells = [
        "" if isnan(mean) else f"{mean:{form}}{spread:<{width}}"
        for mean, spread in zip(means, said, strict=True)
    ]
    return Column(name, cells, priority=priority)


def _change(name: str, title: str, form: str, priority: int, shown: Sequence[Setting]) -> Column:
    """The mean before and after the cut."""
    pairs = [
        [setting.mean.get(each, nan) for each in (name, f"pruned/{name}")] for setting in shown
    ]
    said = [["" if isnan(value) else f"{value:{form}}" for value in pair] for pair in pairs]
    width = max((len(after) for _, after in said), default=0)
    cells = [f"{before} → {after:>{width}}" if after else before for before, after in said]
    return Column(title, cells, priority=priority)


def _share(setting: Setting) -> str:
    """A dash where there is a cut, and it is not exact."""
    share = setting.mean.get(PROVEN, nan)
    if not isnan(share):
        return f"{share:.1%}"
    return "–" if any(PROVEN in run.metrics for run in setting.runs) else ""

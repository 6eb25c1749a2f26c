"""The table that runs are chosen by, and the one that says in what their settings differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite, nan

from glassrec.compare.comparison import MOST, Setting, Task
from glassrec.compare.differences import usual
from glassrec.compare.directory import PROVEN
from glassrec.compare.evidence import verdict
from glassrec.compare.page_table import Cell, Head, Row, Table, number
from glassrec.compare.shown import Shown, hand, told
from glassrec.metrics.metadata import as_higher_is_better, sign
from glassrec.report.formatting import DASH
from glassrec.spelling import counted

COSTS = ("parameters", "pruned/parameters", PROVEN, "latency_p50_4096")
"""What is not quality and has a column."""


def settings_table(task: Task, shown: Sequence[Shown]) -> Table:
    """A row a setting, best first, which opens to its runs: what ranks, quality and costs."""
    what = f"{counted(len(task.runs), 'run')} of {counted(len(task.settings), 'setting')}"
    finding = (
        f"{what}, ranked by {task.by} ({task.better}). Means over seeds ± one standard deviation. "
        "Marked: what is better than all others beyond chance."
        if task.by
        else f"{what}; none has been evaluated yet."
    )
    quality = [name for metric in task.shown for name in (metric, f"pruned/{metric}")]
    there = {name for each in shown for name, n in each.setting.n.items() if n}
    names = [name for name in dict.fromkeys([task.by, *quality, *COSTS]) if name in there]
    heads = [Head(told(name), "descending" if sign(name) > 0 else "ascending", name,
                  name == task.by) for name in names]  # fmt: skip
    columns = zip(*(_column(name, shown) for name in names), strict=True)
    rows = [
        Row(cells, each, runs=[
            Row([number(run.metrics.get(n, nan), hand(n)) for n in names], each, run)
            for run in each.runs
        ])
        for each, cells in zip(shown, columns if names else [()] * len(shown), strict=True)
    ]  # fmt: skip
    return Table(task.name, finding, heads, rows, kind="settings")


def _column(name: str, shown: Sequence[Shown]) -> Iterator[Cell]:
    """Mean and spread of a metric; one that is better than all others beyond chance is marked."""
    means = [each.setting.mean.get(name, nan) for each in shown]
    marked = _best(name, [each.setting for each in shown]) if name != PROVEN else None
    for each, mean in zip(shown, means, strict=True):
        kind = "number best" if each.setting is marked else "number"
        spread = each.setting.std.get(name, nan)
        more = f" ± {hand(name)(spread)}" if isfinite(spread) and spread else ""
        yield replace(number(mean, hand(name), kind), spread=more)


def _best(name: str, settings: Sequence[Setting]) -> Setting | None:
    """The setting that is better than all others by a metric; None where that is not known."""
    known = [each for each in settings if isfinite(each.mean.get(name, nan))]
    known.sort(key=lambda each: -as_higher_is_better(name, each.mean[name]))
    clear = len(known) > 1 and verdict(known[0], known[1:], name).best
    return known[0] if clear else None


def differences(task: Task, best: Sequence[Shown]) -> Iterator[Table]:
    """A column a setting that varies; what most have is pale. No table where none does."""
    if not task.labels:
        return
    finding = (
        f"Only what varies: {counted(len(task.labels), 'setting')} of each configuration. Pale: "
        f"what most have; a dash: a setting that this model does not have.{limited(task)}"
    )
    columns = [_values([each.setting.value(name) for each in best]) for name in task.labels]
    rows = [Row(cells, each) for each, cells in zip(best, zip(*columns, strict=True), strict=True)]
    heads = [Head(label, tip=name) for name, label in task.labels.items()]
    yield Table("In what do the settings differ?", finding, heads, rows)


def _values(values: Sequence[str]) -> list[Cell]:
    most = usual(values)
    return [Cell(each or DASH, kind="usual" if each == most else "text") for each in values]


def limited(task: Task) -> str:
    """What to add where only the best settings are shown."""
    all_of_them = len(task.settings) <= MOST
    return "" if all_of_them else f" The first {MOST} of {len(task.settings)} settings."

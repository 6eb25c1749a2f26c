"""The columns of the page's table: metrics, costs and settings, each with its own hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from markupsafe import Markup

from glassrec.compare.comparison import Task
from glassrec.compare.found import PROVEN, Found
from glassrec.compare.shown import Shown, hand, told
from glassrec.metrics import merit, sign
from glassrec.report.page import DASH

COST_SHOWN = ("parameters", "pruned/parameters", PROVEN, "latency_p50_4096")
"""What is not quality and stands in the table from the start."""

HIDDEN = ("_low", "_high", "_change", "_z", "_p")
"""Ends of the names of metrics that have no column."""

SWITCHED = 24
"""Columns that are hidden at first; more would hide each other in their list."""


@dataclass(frozen=True)
class Column:
    """A metric."""

    name: str
    label: str
    written: Callable[[float], str]
    shown: bool
    sorted: bool
    best: frozenset[str]
    """the keys of the settings that no other is better than"""

    @property
    def first(self) -> str:
        """The order that has the best at the top."""
        return "descending" if sign(self.name) > 0 else "ascending"

    @property
    def tip(self) -> str:
        """Its name in the files."""
        return self.name

    def cell(self, each: Shown) -> Markup:
        """The mean over seeds and its spread."""
        mean, spread = (
            moments.get(self.name, nan) for moments in (each.setting.mean, each.setting.std)
        )
        kind = "number best" if each.key in self.best else "number"
        more = Markup('<span class="spread"> ± {}</span>').format(self.written(spread))
        return self._cell(mean, kind, more if isfinite(spread) and spread else Markup())

    def run_cell(self, run: Found) -> Markup:
        """The number of one run."""
        return self._cell(run.metrics.get(self.name, nan), "number", Markup())

    def _cell(self, value: float, kind: str, more: Markup) -> Markup:
        hidden = Markup("" if self.shown else " hidden")
        if not isfinite(value):
            return Markup('<td class="{}" data-value=""{}>{}</td>').format(kind, hidden, DASH)
        told = self.written(value)
        return Markup('<td class="{}" data-value="{:.9g}"{}>{}{}</td>').format(
            kind, value, hidden, told, more
        )


@dataclass(frozen=True)
class SettingColumn:
    """A setting that varies."""

    name: str
    label: str
    shown: bool = False
    sorted: bool = False
    first: str = "text"

    @property
    def tip(self) -> str:
        """Its name on the command line."""
        return self.name

    def cell(self, each: Shown) -> Markup:
        """Its value; a dash where the setting does not have it."""
        told = each.value(self.name)
        hidden = Markup("" if self.shown else " hidden")
        return Markup('<td class="word" data-value="{}"{}>{}</td>').format(
            told, hidden, told or DASH
        )

    def run_cell(self, run: Found) -> Markup:
        """Nothing: it is that of the setting."""
        return Markup("<td{}></td>").format(Markup("" if self.shown else " hidden"))


def columns(task: Task, shown: Sequence[Shown]) -> list[Any]:
    """The columns of a task: what ranks, quality, costs, then all that can be switched on."""
    there = {name for each in shown for name, n in each.setting.n.items() if n}
    quality = [task.by, *task.shown[:1], *(f"pruned/{name}" for name in task.shown[:1])]
    quality += task.shown[1:2]
    first = [name for name in dict.fromkeys([*quality, *COST_SHOWN]) if name in there]
    rest = sorted(name for name in there - {*first} if not name.endswith(HIDDEN))
    metrics = [_column(name, task, shown, name in first) for name in [*first, *rest[:SWITCHED]]]
    return metrics + [SettingColumn(name, label) for name, label in task.labels.items()]


def _column(name: str, task: Task, shown: Sequence[Shown], visible: bool) -> Column:
    worth = {each.key: merit(name, each.setting.mean.get(name, nan)) for each in shown}
    known = {key: value for key, value in worth.items() if isfinite(value)}
    top = max(known.values(), default=nan)
    # Among equals, none is the best.
    best = [key for key, value in known.items() if value == top]
    marked = frozenset(best if visible and name != PROVEN and len(best) < len(known) else ())
    return Column(name, told(name), hand(name), visible, name == task.by, marked)

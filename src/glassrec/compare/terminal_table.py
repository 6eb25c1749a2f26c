"""The table of a task in the terminal: rank, what varies, quality, cost, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan

from glassrec.compare.comparison import Setting, Task
from glassrec.compare.directory import PROVEN

COSTS = (("parameters", "parameters", ",.0f"), ("latency_p50_4096", "ms of 4,096", ".2f"))
"""Metric, heading and form; what takes less room than quality is left out before it."""

LONGEST = 28
"""Letters of a cell that is words; the rest of a longer one is left out."""


@dataclass(frozen=True)
class Column:
    """A heading and its cells. Of those with a priority, the largest is left out first."""

    title: str
    cells: list[str]
    right: bool = True
    """whether it is numbers, which end at the same place"""
    priority: int = 0

    @property
    def width(self) -> int:
        """Letters of the widest of its cells and its heading."""
        return max(map(len, (self.title, *self.cells)))


def columns(task: Task, top: int) -> list[Column]:
    """All columns that say something of the best `top` settings."""
    shown = task.settings[:top]
    ranks = [str(n) if task.ranked(each) else "–" for n, each in enumerate(shown, start=1)]
    found = [Column("", ranks), *_settings(task, shown)]
    found.append(Column("runs", [str(len(setting.runs)) for setting in shown]))
    if task.by not in ("", *task.shown):
        found.append(_metric(task.by, shown, priority=2))
    found += [_metric(name, shown, priority=min(place, 1) * 4)
              for place, name in enumerate(task.shown)]  # fmt: skip
    found += [_metric(name, shown, title, form, 1 + 2 * place)
              for place, (name, title, form) in enumerate(COSTS)]  # fmt: skip
    found.append(Column("proven", [_share(setting) for setting in shown]))
    found.append(Column("", [", ".join(setting.notes) for setting in shown], right=False))
    return [column for column in found if any(column.cells)]


def _settings(task: Task, shown: Sequence[Setting]) -> Iterator[Column]:
    """What varies among the settings; those named last are the first to be left out."""
    for place, (name, label) in enumerate(task.labels.items()):
        values = [each.differs[name] for each in shown if name in each.differs]
        cells = [each.value(name) for each in shown]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        yield Column(label, cells, right=numbers, priority=5 + place if place > 2 else 1)


def _metric(
    name: str, shown: Sequence[Setting], title: str = "", form: str = "", priority: int = 0
) -> Column:
    """`0.8000 ± 0.0707 → 0.7900`: mean and spread over the runs, and the mean after the cut."""
    means, spreads = (
        [getattr(each, of).get(name, nan) for each in shown] for of in ("mean", "std")
    )
    after = [setting.mean.get(f"pruned/{name}", nan) for setting in shown]
    form = form or (",.0f" if any(abs(mean) >= 1000 for mean in means) else ".4f")
    least = 0.5 if form == ",.0f" else 0.0
    parts = (
        [f"{mean:{form}}" if not isnan(mean) else "" for mean in means],
        [f" ± {spread:{form}}" if spread >= least else "" for spread in spreads],
        [f" → {value:{form}}" if not isnan(value) else "" for value in after],
    )
    widths = [max(map(len, part), default=0) for part in parts]
    cells = [
        f"{mean}{spread:<{widths[1]}}{cut:<{widths[2]}}" if mean else ""
        for mean, spread, cut in zip(*parts, strict=True)
    ]
    return Column(title or name, cells, priority=priority)


def _share(setting: Setting) -> str:
    """A dash where there is a cut, and it is not exact."""
    share = setting.mean.get(PROVEN, nan)
    if not isnan(share):
        return f"{share:.1%}"
    return "–" if any(PROVEN in run.metrics for run in setting.runs) else ""


def fitted(columns: Sequence[Column], width: int | None) -> tuple[list[Column], list[str]]:
    """The columns that `width` letters have room for, and the headings of those left out."""
    if width is None:
        return list(columns), []
    kept, left_out = [_shortened(column) for column in columns], []
    while sum(column.width + 2 for column in kept) - 2 > width:
        last = max(kept, key=lambda column: (column.priority, kept.index(column)))
        if not last.priority:
            break
        kept.remove(last)
        left_out.append(last.title)
    return kept, left_out


def _shortened(column: Column) -> Column:
    cells = [c if len(c) <= LONGEST else f"{c[: LONGEST - 1]}…" for c in column.cells]
    return column if column.right else replace(column, cells=cells)


def lines(columns: Sequence[Column]) -> Iterator[str]:
    """The headings, and a line for each row."""
    for row in zip(*([column.title, *column.cells] for column in columns), strict=True):
        cells = [
            f"{cell:>{column.width}}" if column.right else f"{cell:<{column.width}}"
            for cell, column in zip(row, columns, strict=True)
        ]
        yield "  ".join(cells).rstrip()

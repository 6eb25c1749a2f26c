"""The comparison in the terminal: a table per group, the verdict, searches and problems."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan

from glassrec.compare.run_comparison import ComparisonGroup, RunComparison, Search, Setting
from glassrec.compare.verdict import Verdict, group_verdict, superlative
from glassrec.metrics.metadata import direction, format_metric
from glassrec.metrics.paired import statement
from glassrec.report.formatting import DASH, format_value, minus
from glassrec.report.run_record import CERTIFIED_SHARE
from glassrec.spelling import brief, counted, listed

EXPLAINED_STATES = ("finished", "running", "waiting", "stopped")
"""States of runs that need no reason; a search stopped the last."""

COSTS = (("parameters", "parameters", ",.0f"), ("latency_p50_4096", "ms per 4,096", ".2f"))
"""Metric, heading and format."""

MAX_LETTERS = 28


def summary_lines(
    comparison: RunComparison, *, top: int, width: int | None, by: str | None = None
) -> Iterator[str]:
    """The lines to print, each of `width` letters at most; None for a file.

    Of settings, trials and problems, `top` of each are listed; `by` is the requested metric.
    """
    settings = sum(len(group.settings) for group in comparison.groups)
    first = f"{counted(len(comparison.runs), 'run')}, {counted(settings, 'setting')}"
    if len(comparison.groups) > 1:
        first += f"; {len(comparison.groups)} groups, ranked separately"
    yield first
    for group in comparison.groups:
        yield from ("", group.name, *_table(group, top, width), *_ranking(group, by, top))
    for search in comparison.searches:
        yield from ("", *_search(search, top))
    yield from _problems(comparison, top)


def _table(group: ComparisonGroup, top: int, width: int | None) -> Iterator[str]:
    kept, hidden = fitted(table_columns(group, top), width)
    for row in zip(*(column.padded for column in kept), strict=True):
        yield "  ".join(row).rstrip()
    yield from _more(len(group.settings) - top, "settings.csv")
    if hidden:
        yield f"columns that do not fit: {listed(hidden)}; settings.csv has them"


def _more(n: int, file: str) -> Iterator[str]:
    if n > 0:
        yield f"… and {n:,} more in {file}"


def _ranking(group: ComparisonGroup, by: str | None, top: int) -> Iterator[str]:
    if not group.by:
        yield "no run was evaluated, so there is no ranking"
    elif len(group.settings) > 1:
        chose = group.by == group.default_metric and group.by.startswith("val/")
        why = ", which selected the epochs" if chose else ""
        missing = f"; it has no {by}" if by not in (None, group.by) else ""
        yield f"ranked by {group.by}{why}: {direction(group.by)}{missing}"
        if (found := group_verdict(group)) is not None:
            yield _verdict(group, found)
            yield from _differences(group, found, top)


def _verdict(group: ComparisonGroup, found: Verdict) -> str:
    """Whether the first setting is the best, or only has the best number."""
    if found.best:
        return f"1 is better than every other setting ({found.evidence})"
    unclear = [str(group.settings.index(each) + 1) for each in found.unclear]
    return (
        f"1 is first ({superlative(group.by).lower()} {group.by}), but not distinguishable from "
        f"{brief(unclear)} ({found.evidence})"
    )


def _differences(group: ComparisonGroup, found: Verdict, top: int) -> Iterator[str]:
    """How much better the first setting is than others, where any interval is known."""
    if not found.pairs:
        return
    pairs, size = counted(found.pairs, "pair"), group.settings[0].mean[group.by]
    yield f"1 is better by (95 % interval of each pair; p with Holm's correction for {pairs}):"
    for row in found.differences[: top - 1].to_dict("records"):
        values = (row[name] for name in ("difference", "low", "high"))
        value, *ends = (minus(format_metric(group.by, each, size)) for each in values)
        p = f" ({' to '.join(ends)}), p {format_value(row['p_holm'])}, {row['n']} seeds"
        yield f"  than {row['other'] + 1:<3} {value}{p if row['n'] > 1 else ''}: {statement(row)}"
    yield from _more(len(found.differences) + 1 - top, "differences.csv")


def _search(search: Search, top: int) -> Iterator[str]:
    """The trials on the front, best in the first objective first."""
    best = [trial for trial, on in zip(search.trials, search.front, strict=True) if on]
    direction = search.objectives[0][1]
    best.sort(key=lambda trial: trial.values[0], reverse=direction == "maximize")
    trials = counted(len(search.trials), "trial")
    yield f"{search.name}: {len(best)} of {trials} on the Pareto front"
    for trial in best[:top]:
        values = zip(search.objectives, trial.values, strict=True)
        yield f"  {trial.name}  {'  '.join(f'{name} {value:.6g}' for (name, _), value in values)}"
    yield from _more(len(best) - top, "runs.csv")


def _problems(comparison: RunComparison, top: int) -> Iterator[str]:
    """The number of runs in each state, if not all are finished; and the reasons."""
    states = comparison.states
    if {*states} == {"finished"}:
        return
    yield from ("", ", ".join(f"{n:,} {state}" for state, n in states.most_common()))
    bad = [run for run in comparison.runs if run.state not in EXPLAINED_STATES]
    for run in bad[:top]:
        problem = f": {run.problem.strip().splitlines()[0]}" if run.problem.strip() else ""
        log = f" (log: {os.path.relpath(run.log)})" if run.log is not None else ""
        yield f"  {run.name}  {run.state}{problem}{log}"
    yield from _more(len(bad) - top, "runs.csv")


@dataclass(frozen=True)
class Column:
    """A heading and its cells. Of those with a priority, the largest is left out first."""

    title: str
    cells: list[str]
    right: bool = True
    """whether it holds numbers, which end at the same place"""
    priority: int = 0

    @property
    def width(self) -> int:
        """Letters of the widest of its cells and its heading."""
        return max(map(len, (self.title, *self.cells)))

    @property
    def padded(self) -> list[str]:
        """The heading and the cells, all of one width."""
        pad = str.rjust if self.right else str.ljust
        return [pad(cell, self.width) for cell in (self.title, *self.cells)]


def table_columns(group: ComparisonGroup, top: int) -> list[Column]:
    """All columns with a value for any of the best `top` settings."""
    shown = group.settings[:top]
    ranks = [str(n) if group.is_ranked(each) else DASH for n, each in enumerate(shown, start=1)]
    found = [Column("", ranks), *_settings(group, shown)]
    found.append(Column("runs", [str(len(setting.runs)) for setting in shown]))
    if group.by not in ("", *group.shown):
        found.append(_metric(group.by, shown, priority=2))
    found += [_metric(name, shown, priority=min(place, 1) * 4)
              for place, name in enumerate(group.shown)]  # fmt: skip
    found += [_metric(name, shown, title, form, 1 + 2 * place)
              for place, (name, title, form) in enumerate(COSTS)]  # fmt: skip
    found.append(Column("certified", [_certified(setting) for setting in shown]))
    found.append(Column("", [", ".join(setting.notes) for setting in shown], right=False))
    return [column for column in found if any(column.cells)]


def _settings(group: ComparisonGroup, shown: Sequence[Setting]) -> Iterator[Column]:
    """The settings that vary; the last ones are the first to be left out."""
    for place, (name, label) in enumerate(group.labels.items()):
        values = [each.differs[name] for each in shown if name in each.differs]
        cells = [each.value(name) for each in shown]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        yield Column(label, cells, right=numbers, priority=5 + place if place > 2 else 1)


def _metric(
    name: str, shown: Sequence[Setting], title: str = "", form: str = "", priority: int = 0
) -> Column:
    """`0.8000 ± 0.0707 → 0.7900`: mean and deviation over seeds, and the mean when pruned.

    Of one seed, the interval stands in the place of the deviation.
    """
    means = [setting.mean.get(name, nan) for setting in shown]
    pruned = [setting.mean.get(f"pruned/{name}", nan) for setting in shown]
    deviations = [setting.std.get(name, nan) for setting in shown]
    form = form or (",.0f" if any(abs(mean) >= 1000 for mean in means) else ".4f")
    least = 0.5 if form == ",.0f" else 0.0
    parts = (
        [f"{mean:{form}}" if not isnan(mean) else "" for mean in means],
        [f" ± {deviation:{form}}" if deviation >= least else "" for deviation in deviations],
        [f" → {value:{form}}" if not isnan(value) else "" for value in pruned],
    )
    for place, setting in enumerate(shown):
        if ends := setting.interval(name):
            parts[1][place] = f" ({ends[0]:{form}} to {ends[1]:{form}})"
    widths = [max(map(len, part), default=0) for part in parts]
    cells = [
        f"{mean}{deviation:<{widths[1]}}{after:<{widths[2]}}" if mean else ""
        for mean, deviation, after in zip(*parts, strict=True)
    ]
    return Column(title or name, cells, priority=priority)


def _certified(setting: Setting) -> str:
    """The certified share; a dash where pruning was not exact."""
    share = setting.mean.get(CERTIFIED_SHARE, nan)
    if not isnan(share):
        return f"{share:.1%}"
    return DASH if any(CERTIFIED_SHARE in run.metrics for run in setting.runs) else ""


def fitted(columns: Sequence[Column], width: int | None) -> tuple[list[Column], list[str]]:
    """The columns that fit into `width` letters, and the headings of those left out."""
    if width is None:
        return list(columns), []
    kept, hidden = [_shortened(column) for column in columns], []
    while sum(column.width + 2 for column in kept) - 2 > width:
        last = max(kept, key=lambda column: (column.priority, kept.index(column)))
        if not last.priority:
            break
        kept.remove(last)
        hidden.append(last.title)
    return kept, hidden


def _shortened(column: Column) -> Column:
    cells = [c if len(c) <= MAX_LETTERS else f"{c[: MAX_LETTERS - 1]}…" for c in column.cells]
    return column if column.right else replace(column, cells=cells)

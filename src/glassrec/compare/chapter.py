"""What the page tells of one task: its table, its charts, and what they show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from glassrec.compare import findings
from glassrec.compare.certified import Certified, certified
from glassrec.compare.columns import columns
from glassrec.compare.comparison import Comparison, Setting, Task
from glassrec.compare.explained import INPUTS, explained
from glassrec.compare.heat import Heat
from glassrec.compare.pictures import CARRYING, CUTTING, LEARNING, Picture, pictures
from glassrec.compare.shown import Shown, coloured, hand
from glassrec.report.page import counted
from glassrec.report.style import APART

MOST = 30
"""Settings of which curves and explanations are read and drawn: the best of a task."""

WHY = {
    LEARNING: "learning curves (no run has two epochs of the metric that ranks)",
    CUTTING: "pruning curves (no run has drawn them)",
    CARRYING: "neurons (no run has explained them)",
    INPUTS: "importance of inputs (no run has explained its predictions)",
}
"""Why a question is not answered."""


@dataclass(frozen=True)
class Chapter:
    """A task of the page."""

    title: str
    lead: str
    colours: str
    shown: list[Shown]
    best: list[Shown]
    """those of which curves and explanations are read"""
    labels: dict[str, str]
    usual: dict[str, str]
    """what most settings have, by the name of what varies"""
    differing: str
    columns: list[Any]
    charts: list[Picture]
    heats: list[Heat]
    certified: list[Certified]
    proof: str
    missing: str


def chapter(comparison: Comparison, task: Task, first: int) -> Chapter:
    """What the page tells of a task.

    Args:
        comparison: of all runs.
        task: one of its tasks.
        first: the number of its first setting among all of the page.
    """
    shown = coloured(task, comparison.labels, first)
    best, prefix = shown[:MOST], f"t{first}"
    drawn = list(pictures(prefix, comparison, task, shown, best))
    told, proven = list(explained(task, best)), list(certified(best))
    return Chapter(
        title=task.name,
        lead=_lead(task),
        colours=_colours(shown),
        shown=shown,
        best=best,
        labels=task.labels,
        usual={name: _usual(shown, name) for name in task.labels},
        differing=_differing(task),
        columns=columns(task, shown),
        charts=drawn,
        heats=told,
        certified=proven,
        proof=findings.of_proof(proven) if proven else "",
        missing=_missing({each.heading for each in drawn} | {each.heading for each in told}),
    )


def spread(setting: Setting, metric: str) -> str:
    """`0.6812 ± 0.0021 over 3 seeds`."""
    mean, std, n = (told.get(metric, nan) for told in (setting.mean, setting.std, setting.n))
    written = hand(metric)
    return (
        f"{written(mean)} ± {written(std)} over {n} seeds" if n > 1 else f"{written(mean)}, one run"
    )


def _lead(task: Task) -> str:
    what = f"{counted(len(task.runs), 'run')} of {counted(len(task.settings), 'setting')}"
    if not task.by:
        return f"{what}; none has been evaluated yet."
    better = "more" if task.sign > 0 else "less"
    return (
        f"{what}, the best by {task.by} first ({better} is better). Means over seeds "
        "± one standard deviation."
    )


def _differing(task: Task) -> str:
    """What the table of differences says; nothing without any."""
    if not task.labels:
        return ""
    limited = f" The best {MOST} of them are shown." if len(task.settings) > MOST else ""
    return (
        f"Only what varies: {counted(len(task.labels), 'setting')} of each configuration. Pale: "
        f"what most have; a dash: a setting that this model does not have.{limited}"
    )


def _usual(shown: Sequence[Shown], name: str) -> str:
    """What more than half of the settings have; nothing if there is no such value."""
    value, count = Counter(each.value(name) for each in shown).most_common(1)[0]
    return value if 2 * count > len(shown) else ""


def _missing(there: set[str]) -> str:
    """What could not be shown, and why."""
    found = [why for asked, why in WHY.items() if asked not in there]
    return f"Not shown: {'; '.join(found)}." if found else ""


def _colours(shown: Sequence[Shown]) -> str:
    first = (
        f"The best {len(APART)} settings have colours of their own, the others are grey. "
        if len(shown) > len(APART)
        else "Colours are those of the table. "
    )
    return f"{first}Bands are one standard deviation over seeds."

"""One self-contained page of all runs: a table, charts, and what the certificates say."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from math import isfinite, nan
from pathlib import Path
from urllib.parse import quote

from glassrec.compare.certified import certified
from glassrec.compare.charts import Chart, charts
from glassrec.compare.comparison import MOST, Comparison, Setting, Task
from glassrec.compare.directory import PROVEN, Found
from glassrec.compare.evidence import of_task, superlative
from glassrec.compare.explained import explained
from glassrec.compare.page_table import Cell, Head, Row, Table
from glassrec.compare.settings_table import differences, settings_table
from glassrec.compare.shown import coloured, hand, labels
from glassrec.report.formatting import DASH, percent
from glassrec.report.page import rendered
from glassrec.report.style import QUALITATIVE
from glassrec.run import replacing
from glassrec.spelling import brief, counted


@dataclass(frozen=True)
class Chapter:
    """What the page tells of a task."""

    task: Table
    differences: Sequence[Table]
    colours: str
    charts: Sequence[Chart]
    tables: Sequence[Table]


def write(comparison: Comparison, path: Path) -> None:
    """Write the page.

    Args:
        comparison: the runs; their histories, attributions and curves are read for the best.
        path: of the file. Links lead from there to the reports of the runs.
    """
    text = page(comparison, path.resolve().parent)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def page(comparison: Comparison, folder: Path) -> str:
    """The page's text, with links from a folder."""
    settings = sum(len(task.settings) for task in comparison.tasks)
    return rendered(
        "compare/page.html.j2",
        "compare/page.js",
        title=f"{counted(len(comparison.runs), 'run')} of {counted(settings, 'setting')}",
        lead=[*_lead(comparison)] or ["No run has been evaluated yet."],
        facts=[*_facts(comparison)],
        chapters=[*_chapters(comparison)],
        unfinished=[*_unfinished(comparison.runs, folder)],
        report=lambda run: link(run.path / "report.html", folder),
        version=version("glassrec"),
        now=f"{datetime.now():%-d %B %Y, %H:%M}",
        where=_where(comparison.runs),
    )


def link(target: Path, folder: Path) -> str:
    """A relative address; nothing where there is no such file."""
    return quote(os.path.relpath(target.resolve(), folder)) if target.is_file() else ""


def _where(runs: Sequence[Found]) -> str:
    """The folder that all runs lie in, by the end of its path."""
    common = Path(os.path.commonpath([run.path for run in runs]))
    return "/".join(common.parts[-3:]).lstrip("/")


def _lead(comparison: Comparison) -> Iterator[str]:
    """What is best, as far as that is known, in a sentence a task."""
    for task in comparison.tasks:
        first, names = task.settings[0], labels(task)
        if not task.ranked(first):
            continue
        found, value = of_task(task), f"{names[0]}, with {_spread(first, task.by)}"
        if found is None:
            yield f"The only setting of {task.name} with {task.by}: {value}."
        elif found.best:
            yield f"Best of {task.name} by {task.by}: {value} ({found.evidence})."
        else:
            unclear = brief(names[task.settings.index(each)] for each in found.unclear)
            yield (
                f"{superlative(task.by)} {task.by} of {task.name}: {value}; not distinguishable "
                f"from {unclear} ({found.evidence})."
            )


def _spread(setting: Setting, metric: str) -> str:
    """`0.6812 ± 0.0021 over 3 seeds`."""
    mean, std, n = (told.get(metric, nan) for told in (setting.mean, setting.std, setting.n))
    written = hand(metric)
    more = f" ± {written(std)} over {n} seeds" if n > 1 else ", one run"
    return f"{written(mean)}{more}"


def _facts(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """The tiles below the heading."""
    for state, count in comparison.states.most_common():
        yield f"{count:,}", f"runs {state}"
    if len(comparison.tasks) > 1:
        yield f"{len(comparison.tasks)}", "tasks, ranked apart"
    shares = [run.metrics.get(PROVEN, nan) for run in comparison.runs]
    if known := [share for share in shares if isfinite(share)]:
        yield percent(max(known)), "of neurons provably removable, at most"


def _chapters(comparison: Comparison) -> Iterator[Chapter]:
    first = 1
    for task in comparison.tasks:
        yield _chapter(comparison, task, first)
        first += len(task.settings)


def _chapter(comparison: Comparison, task: Task, first: int) -> Chapter:
    """What the page tells of a task, whose first setting has the number `first` on it."""
    shown = coloured(task, comparison.labels, first)
    best = shown[:MOST]
    of = f"The first {len(QUALITATIVE)} settings have colours of their own, the others are grey."
    colours = of if len(shown) > len(QUALITATIVE) else "Colours are those of the table."
    return Chapter(
        settings_table(task, shown),
        [*differences(task, best)],
        f"{colours} Bands are one standard deviation over seeds.",
        [*charts(f"t{first}", task, comparison.searches, shown, best)],
        [*explained(task, best), *certified(task, best)],
    )


def _unfinished(runs: Sequence[Found], folder: Path) -> Iterator[Table]:
    """Runs that did not finish or have no metrics, and what is known of that."""
    heads = [Head(name) for name in ("state", "stage", "what is known", "log")]
    rows = []
    for run in runs:
        if run.state != "finished" or not run.evaluated:
            bare = "" if run.evaluated else "it was not evaluated"
            log = Cell(run.log.name, link=link(run.log, folder)) if run.log else Cell(DASH)
            told = Cell(run.problem or bare, kind="long")
            cells = [Cell(run.state, kind="state"), Cell(run.stage or DASH), told, log]
            rows.append(Row(cells, run=run))
    finding = "What a run had measured before it ended counts in the means above."
    if rows:
        yield Table("Which runs are not finished?", finding, heads, rows)

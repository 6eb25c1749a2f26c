"""One self-contained page of all runs: a table, charts, and what the certificates say."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from math import isfinite, nan
from pathlib import Path
from urllib.parse import quote

from glassrec.compare.chapter import Chapter, chapter, spread
from glassrec.compare.comparison import Comparison
from glassrec.compare.found import PROVEN, Found
from glassrec.compare.shown import label
from glassrec.report.page import counted, percent, rendered
from glassrec.run import replacing


def write(comparison: Comparison, path: Path) -> None:
    """Write the page.

    Args:
        comparison: the runs; their histories, attributions and curves are read for the best.
        path: of the file. Links lead from there to the reports of the runs.
    """
    text = page(comparison, path.resolve().parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def page(comparison: Comparison, folder: Path) -> str:
    """The page's text, with links from a folder."""
    chapters, first = list[Chapter](), 1
    for task in comparison.tasks:
        chapters.append(chapter(comparison, task, first))
        first += len(task.settings)
    states = Counter(run.state for run in comparison.runs).most_common()
    unfinished = [run for run in comparison.runs if run.state != "finished" or not run.evaluated]
    settings = first - 1
    return rendered(
        "compare/page.html.j2",
        "compare/page.js",
        title=f"{counted(len(comparison.runs), 'run')} of {counted(settings, 'setting')}",
        lead=_lead(comparison),
        facts=_facts(comparison, chapters),
        states=states,
        chapters=chapters,
        unfinished=unfinished,
        href=lambda target: link(target, folder),
        beside=lambda target: os.path.relpath(target, folder),
        version=version("glassrec"),
        now=f"{datetime.now():%-d %B %Y, %H:%M}",
        where=_where(comparison.runs),
    )


def link(target: Path | None, folder: Path) -> str:
    """A relative address; nothing for no file."""
    return quote(os.path.relpath(target.resolve(), folder)) if target is not None else ""


def _where(runs: Sequence[Found]) -> str:
    """The folder that all runs lie in, by the end of its path."""
    common = Path(os.path.commonpath([run.path for run in runs]))
    return "/".join(common.parts[-3:]).lstrip("/")


def _lead(comparison: Comparison) -> list[str]:
    """What is best, in a sentence a task."""
    first = [(task, task.settings[0]) for task in comparison.tasks if task.ranked(task.settings[0])]
    return [
        f"Best of {task.name} by {task.by}: {label(task, best)}, with {spread(best, task.by)}."
        for task, best in first
    ] or ["No run has been evaluated yet."]


def _facts(comparison: Comparison, chapters: Sequence[Chapter]) -> list[tuple[str, str]]:
    """The tiles below the heading."""
    states = Counter(run.state for run in comparison.runs)
    shares = [run.metrics.get(PROVEN, nan) for run in comparison.runs]
    most = max((share for share in shares if isfinite(share)), default=nan)
    found = [(f"{count:,}", f"runs {state}") for state, count in states.most_common()]
    if len(chapters) > 1:
        found.append((f"{len(chapters)}", "tasks, ranked apart"))
    if isfinite(most):
        found.append((percent(most), "of neurons provably removable, at most"))
    return found

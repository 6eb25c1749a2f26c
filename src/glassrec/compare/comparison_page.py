"""One self-contained page of all runs: tables, charts, and certificates."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from math import isfinite, nan
from pathlib import Path
from urllib.parse import quote

from glassrec.artifacts.file_list import REPORT
from glassrec.compare.charts import Chart, charts
from glassrec.compare.explained_groups import group_tables
from glassrec.compare.explanation_agreement import explanations
from glassrec.compare.page_tables import (
    PageTable,
    certificates,
    differences,
    formatter,
    paired_table,
    setting_views,
    settings_table,
    unfinished,
)
from glassrec.compare.run_comparison import (
    MAX_DETAILED,
    ComparisonGroup,
    RunComparison,
    Setting,
)
from glassrec.compare.setting_names import setting_labels
from glassrec.compare.verdict import group_verdict, superlative
from glassrec.report.formatting import percent
from glassrec.report.html import render
from glassrec.report.run_record import CERTIFIED_SHARE, RunRecord
from glassrec.report.style import QUALITATIVE
from glassrec.run import replacing
from glassrec.spelling import brief, counted


@dataclass(frozen=True)
class Chapter:
    """The part of the page about one comparison group."""

    settings: PageTable
    differences: Sequence[PageTable]
    colours: str
    charts: Sequence[Chart]
    tables: Sequence[PageTable]


def write_page(comparison: RunComparison, path: Path) -> None:
    """Write the page, whose links lead from its place to the reports of the runs."""
    text = page(comparison, path.resolve().parent)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def page(comparison: RunComparison, folder: Path) -> str:
    """The page's text, with links from a folder."""
    settings = sum(len(group.settings) for group in comparison.groups)
    logs = {run.name: link(run.log, folder) for run in comparison.runs if run.log}
    return render(
        "compare/page.html.j2",
        "compare/page.js",
        title=f"{counted(len(comparison.runs), 'run')} of {counted(settings, 'setting')}",
        lead=[*_lead(comparison)] or ["No run has been evaluated yet."],
        tiles_shown=[*_tiles(comparison)],
        chapters=[*_chapters(comparison)],
        unfinished=[*unfinished(comparison.runs, logs)],
        report=lambda run: link(run.path / REPORT.name, folder),
        version=version("glassrec"),
        now=f"{datetime.now():%-d %B %Y, %H:%M}",
        place=_common_folder(comparison.runs),
    )


def link(target: Path, folder: Path) -> str:
    """A relative address; nothing where there is no such file."""
    return quote(os.path.relpath(target.resolve(), folder)) if target.is_file() else ""


def _common_folder(runs: Sequence[RunRecord]) -> str:
    """The folder that all runs lie in, by the end of its path."""
    common = Path(os.path.commonpath([run.path for run in runs]))
    return "/".join(common.parts[-3:]).lstrip("/")


def _lead(comparison: RunComparison) -> Iterator[str]:
    """The best setting, as far as it is known, in a sentence per group."""
    for group in comparison.groups:
        first = group.settings[0]
        if not group.is_ranked(first):
            continue
        names = setting_labels([each.differs for each in group.settings], group.labels)
        found, moments = group_verdict(group), _moments(first, group.by)
        value = f"{names[0]}, with {moments}"
        if found is None:
            only = moments if len(names) == 1 else value
            yield f"{group.name} has one setting with {group.by}: {only}."
        elif found.best:
            yield f"Best of {group.name} by {group.by}: {value} ({found.evidence})."
        else:
            unclear = brief(names[group.settings.index(each)] for each in found.unclear)
            yield (
                f"{superlative(group.by)} {group.by} of {group.name}: {value}; not "
                f"distinguishable from {unclear} ({found.evidence})."
            )


def _moments(setting: Setting, metric: str) -> str:
    mean, std, n = (each.get(metric, nan) for each in (setting.mean, setting.std, setting.n))
    form = formatter(metric)
    more = f" ± {form(std)} over {n} seeds" if n > 1 else ", one run"
    return f"{form(mean)}{more}"


def _tiles(comparison: RunComparison) -> Iterator[tuple[str, str]]:
    for state, count in comparison.states.most_common():
        yield f"{count:,}", f"runs {state}"
    if len(comparison.groups) > 1:
        yield f"{len(comparison.groups)}", "groups, ranked separately"
    shares = [run.metrics.get(CERTIFIED_SHARE, nan) for run in comparison.runs]
    if known := [share for share in shares if isfinite(share)]:
        yield percent(max(known)), "largest certified share of neurons"


def _chapters(comparison: RunComparison) -> Iterator[Chapter]:
    first = 1
    for group in comparison.groups:
        yield _chapter(comparison, group, first)
        first += len(group.settings)


def _chapter(comparison: RunComparison, group: ComparisonGroup, first: int) -> Chapter:
    """The part of a group, whose first setting has the number `first` on the page."""
    views = setting_views(group, comparison.labels, first)
    best = views[:MAX_DETAILED]
    many = f"The first {len(QUALITATIVE)} settings have colours of their own, the others are grey."
    colours = many if len(views) > len(QUALITATIVE) else "Colours are those of the table."
    return Chapter(
        settings_table(group, views),
        [*paired_table(group, best), *differences(group, best)],
        f"{colours} Bands are one standard deviation over seeds.",
        [*charts(f"t{first}", group, comparison.searches, views, best)],
        [*explanations(group, best), *group_tables(group, best), *certificates(group, best)],
    )

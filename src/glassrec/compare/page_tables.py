"""The tables of the page: settings, differences, certificates, unfinished runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite, nan

from glassrec.compare.page_blocks import (
    PageCell,
    PageHead,
    PageRow,
    PageTable,
    SettingView,
    column_name,
    formatter,
    number,
)
from glassrec.compare.run_comparison import ComparisonGroup, Setting, limited, metric_of
from glassrec.compare.setting_names import usual
from glassrec.compare.verdict import verdict
from glassrec.metrics.metadata import as_higher_is_better, sign
from glassrec.report.formatting import DASH, format_value, percent, whole
from glassrec.report.run_record import CERTIFIED_SHARE, RunRecord, neuron_totals, pruned_share
from glassrec.spelling import counted

COSTS = ("parameters", "pruned/parameters", CERTIFIED_SHARE, "latency_p50_4096")
"""Costs with a column."""

CERTIFICATE_HEADS = (
    PageHead("guarantee"), PageHead("exact"), PageHead("neurons pruned", "descending"),
    PageHead("largest |Δlogit|", "ascending"), PageHead("rows changed", "ascending"),
    PageHead("rows compared", "descending"), PageHead("hash", tip="of the pruned model's tensors"),
)  # fmt: skip


def settings_table(group: ComparisonGroup, views: Sequence[SettingView]) -> PageTable:
    """A row per setting, best first, which opens to its runs: rank, quality and costs."""
    counts = f"{counted(len(group.runs), 'run')} of {counted(len(group.settings), 'setting')}"
    finding = (
        f"{counts}, ranked by {group.by} ({group.direction}). Means over seeds ± one standard "
        "deviation. Marked: better than all others beyond chance."
        if group.by
        else f"{counts}; none has been evaluated yet."
    )
    quality = [name for metric in group.shown for name in (metric, f"pruned/{metric}")]
    there = {name for each in views for name, n in each.setting.n.items() if n}
    names = [name for name in dict.fromkeys([group.by, *quality, *COSTS]) if name in there]
    heads = [
        PageHead(column_name(n), "descending" if sign(n) > 0 else "ascending", n, n == group.by)
        for n in names
    ]
    columns = [[*_metric_cells(name, views)] for name in names]
    rows = []
    for place, each in enumerate(views):
        runs = [
            PageRow([number(metric_of(run, n), formatter(n)) for n in names], each, run)
            for run in each.runs
        ]
        rows.append(PageRow([column[place] for column in columns], each, runs=runs))
    return PageTable(group.name, finding, heads, rows, kind="settings")


def _metric_cells(name: str, views: Sequence[SettingView]) -> Iterator[PageCell]:
    """Mean and deviation of a metric; one that is better than all others is marked."""
    means = [each.setting.mean.get(name, nan) for each in views]
    settings = [each.setting for each in views]
    marked = _best(name, settings) if name != CERTIFIED_SHARE else None
    for setting, mean in zip(settings, means, strict=True):
        deviation = setting.std.get(name, nan)
        more = f" ± {formatter(name)(deviation)}" if isfinite(deviation) and deviation else ""
        kind = "number best" if setting is marked else "number"
        yield replace(number(mean, formatter(name), kind), spread=more)


def _best(name: str, settings: Sequence[Setting]) -> Setting | None:
    """The setting that is better than all others by a metric; None where that is not known."""
    known = [each for each in settings if isfinite(each.mean.get(name, nan))]
    known.sort(key=lambda each: -as_higher_is_better(name, each.mean[name]))
    clear = len(known) > 1 and verdict(known[0], known[1:], name).best
    return known[0] if clear else None


def differences(group: ComparisonGroup, best: Sequence[SettingView]) -> Iterator[PageTable]:
    """A column per setting that varies; the usual value is pale. No table where none does."""
    if not group.labels:
        return
    finding = (
        f"Only settings that vary: {counted(len(group.labels), 'setting')} of each configuration. "
        f"Pale: the usual value; a dash: this model has no such setting.{limited(group)}"
    )
    columns = []
    for name in group.labels:
        values = [each.setting.value(name) for each in best]
        most = usual(values)
        columns.append([PageCell(v or DASH, kind="usual" if v == most else "text") for v in values])
    rows = [
        PageRow(cells, each) for each, cells in zip(best, zip(*columns, strict=True), strict=True)
    ]
    heads = [PageHead(label, tip=name) for name, label in group.labels.items()]
    yield PageTable("How do the settings differ?", finding, heads, rows)


def certificates(group: ComparisonGroup, best: Sequence[SettingView]) -> Iterator[PageTable]:
    """A row per run with a certificate; no table without one."""
    found = [
        (each, run, certificate)
        for each in best
        for run in each.runs
        if (certificate := run.certificate) is not None
    ]
    if not found:
        return
    rows, exact = [], []
    for each, run, certificate in found:
        share = pruned_share(certificate)
        pruned, before = map(whole, neuron_totals(certificate))
        exact += [share] if certificate.exact else []
        rows.append(PageRow([
            PageCell(certificate.level),
            PageCell("exact", kind="yes") if certificate.exact else PageCell("approximate"),
            number(share, lambda s, p=pruned, b=before: f"{p} of {b} ({percent(s)})"),  # type: ignore[misc]
            number(certificate.max_abs_logit_difference, format_value),
            number(certificate.rows_changed, whole),
            number(sum(certificate.rows.values()), whole),
            PageCell(certificate.pruned[:12] or DASH, kind="code"),
        ], each, run))  # fmt: skip
    most = f", with up to {percent(max(exact))} of the neurons pruned" if exact else ""
    finding = (
        f"{len(exact)} of {len(found)} pruned models are exact on all rows that were "
        f"compared{most}."
    )
    note = (
        "Exact: the logits of all rows are equal except for rounding. The hash is the first part "
        "of the pruned tensors’ sha256; each run’s certificate.md has all of "
        f"it.{limited(group)}"
    )
    yield PageTable("What do the certificates show?", finding, CERTIFICATE_HEADS, rows, note)


def unfinished(runs: Sequence[RunRecord], log_link: dict[str, str]) -> Iterator[PageTable]:
    """Runs that did not finish or have no metrics, with the reason.

    Args:
        runs: all runs.
        log_link: the address of the log of each run by name, where there is one.
    """
    heads = [PageHead(name) for name in ("state", "stage", "reason", "log")]
    rows = []
    for run in runs:
        if run.state != "finished" or not run.evaluated:
            bare = "" if run.evaluated else "it was not evaluated"
            log = (
                PageCell(run.log.name, link=log_link.get(run.name, ""))
                if run.log
                else PageCell(DASH)
            )
            reason = PageCell(run.problem or bare, kind="long")
            cells = [PageCell(run.state, kind="state"), PageCell(run.stage or DASH), reason, log]
            rows.append(PageRow(cells, run=run))
    finding = "Metrics that a run had before it ended count in the means above."
    if rows:
        yield PageTable("Which runs are not finished or not evaluated?", finding, heads, rows)

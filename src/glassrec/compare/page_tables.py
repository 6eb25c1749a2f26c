"""The parts of the page as plain values, and its tables: settings, differences, certificates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan

from glassrec.compare.run_comparison import ComparisonGroup, Setting, limited, paired
from glassrec.compare.setting_names import setting_labels, usual
from glassrec.compare.verdict import group_verdict, verdict
from glassrec.metrics.metadata import as_higher_is_better, direction, sign
from glassrec.metrics.paired import statement
from glassrec.report.formatting import (
    COSTS,
    DASH,
    Formatter,
    fixed,
    format_value,
    metric_name,
    percent,
    whole,
)
from glassrec.report.run_record import CERTIFIED_SHARE, RunRecord, neuron_totals, pruned_share
from glassrec.report.style import QUALITATIVE, REST
from glassrec.spelling import counted

COST_COLUMNS = ("parameters", "pruned/parameters", CERTIFIED_SHARE, "latency_p50_4096")
"""Costs with a column."""


@dataclass(frozen=True)
class SettingView:
    """A setting as the page shows it."""

    key: str
    label: str
    colour: str
    setting: Setting
    words: str = ""
    """for the page's filter: `model=mlp model.factors=8`"""

    @property
    def runs(self) -> list[RunRecord]:
        """Its runs, one per seed."""
        return self.setting.runs

    @property
    def gid(self) -> str:
        """The gid of its parts in a chart."""
        return f"of:{self.key}"


def setting_views(
    group: ComparisonGroup, varies: Iterable[str] = (), first: int = 1
) -> list[SettingView]:
    """The settings of a group, best first: the first few in colours of their own, the others grey.

    The page's filter finds the settings that vary among all of its groups, `varies`; `first` is the
    number of the first setting.
    """
    colours = [*QUALITATIVE, *[REST] * len(group.settings)]
    labels = setting_labels([setting.differs for setting in group.settings], group.labels)
    views = []
    for place, (each, label) in enumerate(zip(group.settings, labels, strict=True)):
        own = each.runs[0].settings
        words = paired({name: own[name] for name in varies if name in own})
        views.append(SettingView(f"{first + place}", label, colours[place], each, words))
    return views


@dataclass(frozen=True)
class PageCell:
    """A text and its sorting value; a blank sorts last."""

    text: str
    value: float | None = None
    """of a number; text sorts by itself"""
    kind: str = "text"
    colour: str = ""
    spread: str = ""
    link: str = ""


def number(value: float, form: Formatter, kind: str = "number") -> PageCell:
    """A cell that sorts by a number; a dash where there is none."""
    return PageCell(form(value), value, kind) if isfinite(value) else PageCell(DASH, kind="number")


@dataclass(frozen=True)
class PageHead:
    """A heading that sorts; the first click sorts the best end up."""

    name: str
    first: str = "text"
    """`descending` or `ascending`, of numbers"""
    tip: str = ""
    sorted: bool = False


@dataclass(frozen=True)
class PageRow:
    """Named by a setting, or by a run, or by a run in the colour of its setting."""

    cells: Sequence[PageCell]
    of: SettingView | None = None
    run: RunRecord | None = None
    runs: Sequence[PageRow] = ()
    """the rows that open below it"""

    @property
    def name(self) -> str:
        """The setting and the seed; of a run without a setting, the end of its path."""
        if self.of is None:
            return "" if self.run is None else self.run.name
        seed = "" if self.run is None or self.run.seed is None else f" · seed {self.run.seed}"
        return f"{self.of.label}{seed}"


@dataclass(frozen=True)
class PageTable:
    """A question, the answer, the table, and the definition of its numbers."""

    heading: str
    finding: str
    heads: Sequence[PageHead]
    rows: Sequence[PageRow]
    note: str = ""
    kind: str = ""
    """`settings`, `heat` or nothing: its look"""


def column_name(name: str) -> str:
    """The heading of a metric."""
    if name == CERTIFIED_SHARE:
        return "certified share"
    plain = name.removeprefix("pruned/")
    label = COSTS[plain][0] if plain in COSTS else metric_name(plain)
    label += ", validation" if plain.startswith("val/") else ""
    return f"{label}, pruned" if name.startswith("pruned/") else label


def formatter(name: str) -> Formatter:
    """The formatter of a metric."""
    plain = name.removeprefix("pruned/")
    if name == CERTIFIED_SHARE or plain.endswith("_share"):
        return percent
    return COSTS[plain][1] if plain in COSTS else fixed


CERTIFICATE_HEADS = (
    PageHead("guarantee"), PageHead("exact"), PageHead("neurons pruned", "descending"),
    PageHead("largest |Δlogit|", "ascending"), PageHead("rows changed", "ascending"),
    PageHead("rows compared", "descending"), PageHead("hash", tip="of the pruned model's tensors"),
)  # fmt: skip


def settings_table(group: ComparisonGroup, views: Sequence[SettingView]) -> PageTable:
    """A row per setting, best first, which opens to its runs: rank, quality and costs."""
    counts = f"{counted(len(group.runs), 'run')} of {counted(len(group.settings), 'setting')}"
    finding = (
        f"{counts}, ranked by {group.by} ({direction(group.by)}). Means over seeds ± one standard "
        "deviation; of one seed, the 95 % interval over rows, lists or users. Marked: better than "
        "all others beyond chance."
        if group.by
        else f"{counts}; none has been evaluated yet."
    )
    quality = [name for metric in group.shown for name in (metric, f"pruned/{metric}")]
    there = {name for each in views for name, n in each.setting.n.items() if n}
    names = [name for name in dict.fromkeys([group.by, *quality, *COST_COLUMNS]) if name in there]
    heads = [
        PageHead(column_name(n), "descending" if sign(n) > 0 else "ascending", n, n == group.by)
        for n in names
    ]
    columns = [[*_metric_cells(name, views)] for name in names]
    rows = []
    for place, each in enumerate(views):
        runs = [
            PageRow([number(run.metrics.get(n, nan), formatter(n)) for n in names], each, run)
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
        if ends := setting.interval(name):
            more = f" ({' to '.join(map(formatter(name), ends))})"
        kind = "number best" if setting is marked else "number"
        yield replace(number(mean, formatter(name), kind), spread=more)


def _best(name: str, settings: Sequence[Setting]) -> Setting | None:
    """The setting that is better than all others by a metric; None where that is not known."""
    known = [each for each in settings if isfinite(each.mean.get(name, nan))]
    known.sort(key=lambda each: -as_higher_is_better(name, each.mean[name]))
    clear = len(known) > 1 and verdict(known, name).best
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


PAIRED_HEADS = (
    PageHead("the first is better by", "descending"), PageHead("95 % interval", "descending"),
    PageHead("p", "ascending"), PageHead("p, Holm", "ascending"), PageHead("seeds", "descending"),
    PageHead("shown"),
)  # fmt: skip


def paired_table(group: ComparisonGroup, best: Sequence[SettingView]) -> Iterator[PageTable]:
    """The paired differences between the first setting and others; no table without an interval."""
    found, form, rows = group_verdict(group), formatter(group.by), []
    if found is None or not found.pairs:
        return
    for test in found.differences[: len(best) - 1].to_dict("records"):
        ends = " to ".join(form(test[end]) for end in ("low", "high")) if test["n"] > 1 else DASH
        numbers = [number(test[name], format_value) for name in ("p", "p_holm", "n")]
        first = [number(test["difference"], form), PageCell(ends, kind="number")]
        cells = [*first, *numbers, PageCell(statement(test), kind="long")]
        rows.append(PageRow(cells, best[test["other"]]))
    finding = (
        f"How much better {best[0].label} is by {group.by}, over seeds, and so splits, that both "
        "settings have."
    )
    note = (
        "Student’s t intervals of each pair alone, about seeds of this data. Holm’s correction is "
        "for all pairs of settings. No difference shown does not mean equal. differences.csv has "
        f"all pairs.{limited(group)}"
    )
    yield PageTable("Which differences are beyond chance?", finding, PAIRED_HEADS, rows, note)


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

    `log_link` has the address of the log of each run by name, where there is one.
    """
    heads = [PageHead(name) for name in ("state", "stage", "reason", "log")]
    rows = []
    for run in runs:
        if run.state != "finished" or not run.evaluated:
            bare = "" if run.evaluated else "it was not evaluated"
            log = PageCell(run.log.name if run.log else DASH, link=log_link.get(run.name, ""))
            reason = PageCell(run.problem or bare, kind="long")
            cells = [PageCell(run.state, kind="state"), PageCell(run.stage or DASH), reason, log]
            rows.append(PageRow(cells, run=run))
    finding = "Metrics that a run had before it ended count in the means above."
    if rows:
        yield PageTable("Which runs are not finished or not evaluated?", finding, heads, rows)

"""The parts of the page as plain values, which one template lays out and one script sorts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

from glassrec.compare.run_comparison import ComparisonGroup, Setting, paired
from glassrec.compare.setting_names import setting_labels
from glassrec.report.formatting import COSTS, DASH, Formatter, fixed, percent
from glassrec.report.run_record import CERTIFIED_SHARE, RunRecord
from glassrec.report.style import QUALITATIVE, REST


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

    Args:
        group: the comparison group.
        varies: the settings that the page's filter knows, which vary among all of its groups.
        first: the number of the first among all of the page.
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
        """The name that it sorts by."""
        if self.run is not None:
            return self.run.name
        return "" if self.of is None else self.of.label


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
    plain = name.removeprefix("pruned/").removeprefix("test/")
    label = COSTS[plain][0] if plain in COSTS else plain
    return f"{label}, pruned" if name.startswith("pruned/") else label


def formatter(name: str) -> Formatter:
    """The formatter of a metric."""
    plain = name.removeprefix("pruned/")
    if name == CERTIFIED_SHARE or plain.endswith("_share"):
        return percent
    return COSTS[plain][1] if plain in COSTS else fixed

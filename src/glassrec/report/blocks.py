"""The blocks of a report: plain values, which a template lays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Sentences:
    """A list of sentences, below a heading if it has one."""

    kind: ClassVar[str] = "sentences"
    lines: Sequence[str]
    heading: str = ""


@dataclass(frozen=True)
class TableBlock:
    """A table; the first `texts` columns are text, the others numbers."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


@dataclass(frozen=True)
class Bar:
    """A share of the widest bar, perhaps with an interval; a faint one is not significant."""

    name: str
    share: float
    text: str
    low: float | None = None
    high: float | None = None
    faint: bool = False


@dataclass(frozen=True)
class Bars:
    """Bars below each other, with their caption."""

    kind: ClassVar[str] = "bars"
    heading: str
    bars: Sequence[Bar]
    caption: str


@dataclass(frozen=True)
class FigurePart:
    """A PNG with its alternative text and its caption."""

    kind: ClassVar[str] = "figure"
    png: bytes
    alternative: str
    caption: str


@dataclass(frozen=True)
class Code:
    """Lines for a terminal or a file."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that are folded until a reader opens them."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: Sequence[Block]


Block = Sentences | TableBlock | Bars | FigurePart | Code | Details


@dataclass(frozen=True)
class Section:
    """A theme: the finding, and the evidence for it."""

    name: str
    title: str
    finding: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """A whole report."""

    title: str
    lead: str
    summary: Sequence[str]
    tiles: Sequence[tuple[str, str]]
    """pairs of a number and its label"""
    sections: Sequence[Section]
    glossary: Sequence[tuple[str, str]]
    """the terms that the report uses, with their definitions"""

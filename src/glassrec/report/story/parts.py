"""What a report is made of: plain values, which a template lays out."""

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
class Listing:
    """A table; the first `texts` columns are words, the others numbers."""

    kind: ClassVar[str] = "listing"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


@dataclass(frozen=True)
class Bar:
    """A share of the widest bar, with its interval if it has one; a faint one may be chance."""

    name: str
    share: float
    said: str
    low: float | None = None
    high: float | None = None
    faint: bool = False


@dataclass(frozen=True)
class Bars:
    """Bars below each other, and what they are."""

    kind: ClassVar[str] = "bars"
    heading: str
    bars: Sequence[Bar]
    caption: str


@dataclass(frozen=True)
class Shown:
    """A picture: PNG, words for those who do not see it, and what those who do are to see."""

    kind: ClassVar[str] = "shown"
    png: bytes
    described: str
    caption: str


@dataclass(frozen=True)
class Code:
    """Lines for a terminal or a file, as they are."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class More:
    """What is folded away until somebody asks for it."""

    kind: ClassVar[str] = "more"
    summary: str
    parts: Sequence[Part]


Part = Sentences | Listing | Bars | Shown | Code | More


@dataclass(frozen=True)
class Section:
    """A theme: the finding in plain words, and what it rests on."""

    name: str
    title: str
    finding: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Story:
    """A whole report."""

    title: str
    lead: str
    nutshell: Sequence[str]
    tiles: Sequence[tuple[str, str]]
    """pairs of a number and what it is"""
    sections: Sequence[Section]
    words: Sequence[tuple[str, str]]
    """terms that the report uses, and what they mean"""

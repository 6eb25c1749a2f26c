"""The tables of the page as plain values, which one template lays out and one script sorts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

from glassrec.compare.directory import Found
from glassrec.compare.shown import Shown
from glassrec.report.formatting import DASH


@dataclass(frozen=True)
class Cell:
    """What stands there, and what it sorts by; without text it is blank, and sorts last."""

    text: str
    value: float | None = None
    """of a number; text sorts by itself"""
    kind: str = "text"
    colour: str = ""
    spread: str = ""
    link: str = ""


def number(value: float, written: Callable[[float], str], kind: str = "number") -> Cell:
    """A cell that sorts by a number; a dash where there is none."""
    return Cell(written(value), value, kind) if isfinite(value) else Cell(DASH, kind="number")


@dataclass(frozen=True)
class Head:
    """A heading that sorts; the first click sorts the best end up."""

    name: str
    first: str = "text"
    """`descending` or `ascending`, of numbers"""
    tip: str = ""
    sorted: bool = False


@dataclass(frozen=True)
class Row:
    """Named by a setting, or by a run, or by a run in the colour of its setting."""

    cells: Sequence[Cell]
    of: Shown | None = None
    run: Found | None = None
    runs: Sequence[Row] = ()
    """what opens below it"""

    @property
    def name(self) -> str:
        """What it sorts by."""
        if self.run is not None:
            return self.run.name
        return "" if self.of is None else self.of.label


@dataclass(frozen=True)
class Table:
    """The question that it answers, the answer, and what that rests on."""

    heading: str
    finding: str
    heads: Sequence[Head]
    rows: Sequence[Row]
    rests: str = ""
    kind: str = ""
    """`settings`, `heat` or nothing: how it looks"""

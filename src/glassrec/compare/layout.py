"""Columns of text beside each other, as many as there is width for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GAP = 2
"""Blanks between two columns."""

LONGEST = 28
"""Letters of a cell that is words; the rest of a longer one is left out."""


@dataclass(frozen=True)
class Column:
    """A heading and its cells. Of those with a priority, the largest is left out first."""

    title: str
    cells: list[str]
    right: bool = True
    """whether it is numbers, which end at the same place"""
    priority: int = 0

    @property
    def width(self) -> int:
        """Letters of the widest of its cells and its heading."""
        return max(map(len, (self.title, *self.cells)))


def fitted(columns: Sequence[Column], width: int | None) -> tuple[list[Column], list[str]]:
    """The columns that `width` letters have room for, and the headings of those left out."""
    if width is None:
        return list(columns), []
    kept = [_shortened(column) for column in columns]
    while _total(kept) > width and any(column.priority for column in kept):
        last = max(column.priority for column in kept)
        places = [place for place, column in enumerate(kept) if column.priority == last]
        del kept[places[-1]]
    there = [column.title for column in kept]
    return kept, [column.title for column in columns if column.title not in there]


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + GAP * (len(columns) - 1)


def _shortened(column: Column) -> Column:
    if column.right:
        return column
    cells = [c if len(c) <= LONGEST else f"{c[: LONGEST - 1]}…" for c in column.cells]
    return Column(column.title, cells, column.right, column.priority)


def lines(columns: Sequence[Column]) -> Iterator[str]:
    """The headings, and a line for each row."""
    for row in zip(*([column.title, *column.cells] for column in columns), strict=True):
        cells = [
            f"{cell:>{column.width}}" if column.right else f"{cell:<{column.width}}"
            for cell, column in zip(row, columns, strict=True)
        ]
        yield (" " * GAP).join(cells).rstrip()

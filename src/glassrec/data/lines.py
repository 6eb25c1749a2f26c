"""Where the rows of a delimited text stand; a cell in quotes may hold line breaks.

Quoting follows RFC 4180: a quoted cell begins with its quote, doubles the quotes that it holds, and
ends with a quote before a separator or a line break (blanks between are allowed). A quote inside a
cell that does not begin with one is a character like any other. Two stray quotes, which would make
one cell of all the rows between them, are told from a quoted cell of several lines by two rules:
text behind a closing quote is refused, and so is a row each line of which reads as a row.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glassrec.data.content import line_at

_FIRST_BLOCK, _BLOCK, _PIECE = 1 << 16, 1 << 24, 1 << 20
"""Bytes at a time; the first block is small, as it is often all that is asked for."""
_QUOTE, _LF, _CR = b'"\n\r'
_BREAK = re.compile(rb"\r\n|\r|\n")


class Rows(NamedTuple):
    """Some rows, in order."""

    starts: np.ndarray
    """(N,) int64: where each begins, in bytes."""
    ends: np.ndarray
    """(N,) int64: where each ends; of \\r\\n, the \\r still belongs to the row."""
    cells: np.ndarray
    """(N,) int64: how many cells each has."""
    breaks: np.ndarray
    """(N,) int64: how many line breaks its cells hold."""

    def where(self, keep: np.ndarray) -> Rows:
        """The rows that a mask (N,) keeps."""
        return Rows(*(values[keep] for values in self))


class Lines:
    """The rows of a text.

    Args:
        path: the file, for messages.
        text: its bytes.
        separator: one byte.
        quotes: whether cells may be in double quotes.

    Raises:
        ValueError: a quote is never closed, or text follows a closing quote.
    """

    def __init__(self, path: Path, text: memoryview, separator: bytes, quotes: bool) -> None:
        self.path, self.text, self.separator = path, text, separator
        self._bytes = np.frombuffer(text, np.uint8)
        self._marks: np.ndarray | None = np.empty(0, np.int64)
        """(2K,) int64: where quoted cells open and close, in turn; None: at each quote."""
        self.broken = False
        """Whether a cell holds a line break."""
        if quotes and self._has_quotes():
            self._marks = None
            if not self._regular():
                self._marks = self._quoted()
            self.broken = any(
                self._inside(found, self._line_ends(found)).any()
                for found in self
                if found.odd or len(found.marks)
            )

    def __iter__(self) -> Iterator[_Block]:
        odd, base, size = False, 0, _FIRST_BLOCK
        while base < len(self._bytes):
            block = self._bytes[base : base + size]
            if self._marks is None:
                marks = base + np.flatnonzero(block == _QUOTE)
            else:
                ends = np.searchsorted(self._marks, [base, base + len(block)])
                marks = self._marks[slice(*ends)]
            yield _Block(base, block, marks, odd)
            odd ^= len(marks) % 2 == 1
            base, size = base + size, _BLOCK

    def rows(self) -> Iterator[Rows]:
        """All rows but empty lines, in pieces."""
        start = cells = breaks = 0
        for found in self:
            line_ends = self._line_ends(found)
            inside = self._inside(found, line_ends)
            separators = found.base + np.flatnonzero(found.bytes == self.separator[0])
            separators = separators[~self._inside(found, separators)]
            ends, inner = line_ends[~inside], line_ends[inside]
            if found.base + len(found.bytes) == len(self._bytes) and (
                not len(ends) or ends[-1] + 1 < len(self._bytes)
            ):
                ends = np.append(ends, len(self._bytes))
            if len(ends):
                rows = Rows(
                    np.append(start, ends[:-1] + 1),
                    ends,
                    np.diff(np.searchsorted(separators, ends), prepend=-cells) + 1,
                    np.diff(np.searchsorted(inner, ends), prepend=-breaks),
                )
                start, cells, breaks = int(ends[-1]) + 1, 0, 0
                separators, inner = separators[separators > ends[-1]], inner[inner > ends[-1]]
                yield rows.where(~self._empty(rows))
            cells, breaks = cells + len(separators), breaks + len(inner)

    def filled(self, columns: int) -> Rows:
        """All rows; in a file of two or more columns, lines of nothing but blanks are none."""
        pieces = [Rows(*(np.empty(0, np.int64),) * 4), *self.rows()]
        rows = Rows(*(np.concatenate(values) for values in zip(*pieces, strict=True)))
        if columns == 1:
            return rows
        keep = np.ones(len(rows.starts), bool)
        for at in np.flatnonzero(rows.cells == 1):
            keep[at] = bool(self.row(rows.starts[at], rows.ends[at]).strip())
        return rows.where(keep)

    def row(self, start: int, end: int) -> str:
        """The text of a row."""
        return bytes(self.text[start:end]).decode("utf-8", errors="replace")

    def line(self, offset: int) -> int:
        """The number of the line that holds this byte, from 1."""
        return line_at(bytes(self.text[:offset]))

    def check_rows_apart(self, columns: int, numbers: Collection[int], first: int) -> None:
        """ValueError at the first row from `first` bytes on, each line of which reads as a row.

        Args:
            columns: how many cells a row has.
            numbers: which of them hold numbers.
            first: where the first row begins, in bytes.
        """
        for rows in self.rows():
            for start, end, _, _ in zip(*rows.where(rows.breaks > 0), strict=True):
                lines = [each for each in _BREAK.split(self.text[start:end]) if each.strip()]
                if start >= first and all(self._reads_as_row(e, columns, numbers) for e in lines):
                    line = self.line(start)
                    raise ValueError(
                        f"{self.path}, line {line}: a quoted cell goes on to line "
                        f"{self.line(end - 1)}, and each of these lines reads as a row of its own; "
                        f"remove the stray quotes{_OR_NO_QUOTES}"
                    )

    def _reads_as_row(self, line: bytes, columns: int, numbers: Collection[int]) -> bool:
        cells = line.split(self.separator)
        return len(cells) == columns and all(_is_number(cells[at]) for at in numbers)

    def _has_quotes(self) -> bool:
        pieces = range(0, len(self.text), _PIECE)
        return any(b'"' in bytes(self.text[at : at + _PIECE]) for at in pieces)

    def _regular(self) -> bool:
        """Whether every quote opens or closes a cell, or is one of two in a quoted cell."""
        beside = np.zeros(256, bool)
        beside[[_QUOTE, _LF, _CR, self.separator[0]]] = True
        last, count = len(self._bytes) - 1, 0
        for found in self:
            first = int(found.odd)
            opening, closing = found.marks[first::2], found.marks[1 - first :: 2]
            before = beside[self._bytes[opening - 1]] | (opening == 0)
            after = beside[self._bytes[np.minimum(closing + 1, last)]] | (closing == last)
            if not (before.all() and after.all()):
                return False
            count += len(found.marks)
        return count % 2 == 0

    def _quoted(self) -> np.ndarray:
        """(2K,) int64: where quoted cells open and close; ValueError at the first ill one."""
        ends = rb"[\r\n" + re.escape(self.separator) + rb"]"
        blanks = b"" if self.separator == b" " else rb" *+"
        cell = re.compile(
            rb"(?:(?<=" + ends + rb')|\A)"[^"]*+(?:""[^"]*+)*+'
            rb'(?P<close>")?+(?P<end>' + blanks + rb"(?=" + ends + rb"|\Z))?+"
        )
        marks = []
        for match in cell.finditer(self.text):
            start, close = match.start(), match.start("close")
            if close < 0 or match["end"] is None:
                raise self._stray(start, close)
            marks += [start, close]
        return np.array(marks, np.int64)

    def _stray(self, start: int, close: int) -> ValueError:
        where = f"{self.path}, line {self.line(start)}: a cell begins with a quote"
        if close < 0:
            return ValueError(f"{where} that is never closed; remove it{_OR_NO_QUOTES}")
        return ValueError(
            f"{where}, and text follows the next quote, in line {self.line(close)}; double the "
            f"quotes inside a quoted cell, or remove stray ones{_OR_NO_QUOTES}"
        )

    def _line_ends(self, found: _Block) -> np.ndarray:
        r"""(N,) int64: where a line ends: at \n, and at \r unless \n follows."""
        ends = found.bytes == _LF
        returns = np.flatnonzero(found.bytes == _CR)
        if len(returns):
            after = np.minimum(found.base + returns + 1, len(self._bytes) - 1)
            ends[returns[self._bytes[after] != _LF]] = True
        return found.base + np.flatnonzero(ends)

    def _inside(self, found: _Block, at: np.ndarray) -> np.ndarray:
        """(N,) bool: which of the bytes `at` (N,) are inside a quoted cell."""
        if not len(found.marks):
            return np.full(len(at), found.odd)
        return (np.searchsorted(found.marks, at) + found.odd) % 2 == 1

    def _empty(self, rows: Rows) -> np.ndarray:
        length = rows.ends - rows.starts
        first = self._bytes[np.minimum(rows.starts, len(self._bytes) - 1)]
        return (length == 0) | ((length == 1) & (first == _CR))


class _Block(NamedTuple):
    base: int
    """Where it begins."""
    bytes: np.ndarray
    marks: np.ndarray
    """Where quoted cells open and close in it."""
    odd: bool
    """Whether it begins inside of one."""


_OR_NO_QUOTES = "; if quotes have no meaning in this file, set data.quotes=false"


def _is_number(cell: bytes) -> bool:
    """Whether a cell may stand in a column of numbers, quotes aside."""
    text = cell.decode("utf-8", errors="replace").strip('" \t')
    if not text or text.casefold() in ("true", "false", "na", "null", "n/a"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True

"""Double quotes in a delimited text: where quoted cells stand, and whether quotes are stray.

Quoting follows RFC 4180: a quoted cell begins with its quote, doubles the quotes that it holds, and
ends with a quote before a separator or a line break (blanks between are allowed). A quote inside a
cell that does not begin with one is a character like any other. Two stray quotes, which would make
one cell of all the rows between them, differ from a quoted cell of several lines in two ways: text
follows a closing quote, or each line of the cell's row reads as a row.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from glassrec.data.content import blocks, find_byte, line_at

_QUOTE, _LF, _CR = b'"\n\r'
_BREAK = re.compile(rb"\r\n|\r|\n")
_OR_NO_QUOTES = "; if quotes have no meaning in this file, set data.quotes=false"


def rows_of_several_lines(path: Path, content: memoryview, separator: bytes) -> np.ndarray:
    """Where the rows begin and end that have a line break in a quoted cell, (K, 2) int64.

    Raises:
        ValueError: a quote is never closed, or text follows a closing quote.
    """
    if find_byte(content, b'"') < 0:
        return np.empty((0, 2), np.int64)
    data = np.frombuffer(content, np.uint8)
    marks = _positions(content, _QUOTE)
    if not _in_place(data, marks, separator[0]):
        marks = _quoted_cells(path, content, separator)
    ends = _positions(content, _LF, _CR)
    carriage = data[ends] == _CR
    ends = ends[~(carriage & (data[np.minimum(ends + 1, len(data) - 1)] == _LF))]
    inside = np.searchsorted(marks, ends) % 2 == 1
    outside = np.r_[-1, ends[~inside], len(data)]
    last = np.unique(np.searchsorted(outside, ends[inside]))
    return np.column_stack([outside[last - 1] + 1, outside[last]])


def check_no_rows_in_cells(
    path: Path,
    content: memoryview,
    rows: np.ndarray,
    separator: bytes,
    columns: int,
    numbers: Collection[int],
) -> None:
    """ValueError at the first of `rows` (K, 2) each line of which reads as a row of its own: with
    as many cells as there are `columns`, and numbers in the columns `numbers`.
    """
    for start, end in rows.tolist():
        lines = [line.split(separator) for line in _BREAK.split(content[start:end]) if line.strip()]
        if all(
            len(cells) == columns and all(_is_number(cells[at]) for at in numbers)
            for cells in lines
        ):
            raise ValueError(
                f"{path}, line {line_at(content, start)}: a quoted cell goes on to line "
                f"{line_at(content, end - 1)}, and each of these lines reads as a row of its own; "
                f"remove the stray quotes{_OR_NO_QUOTES}"
            )


def _positions(content: memoryview, *wanted: int) -> np.ndarray:
    """Where these bytes stand, (N,) int64, ascending; found in blocks, to bound the memory."""
    found = [np.empty(0, np.int64)]
    for start, block in blocks(content):
        data = np.frombuffer(block, np.uint8)
        there = data == wanted[0]
        for byte in wanted[1:]:
            there |= data == byte
        found.append(start + np.flatnonzero(there))
    return np.concatenate(found)


def _in_place(data: np.ndarray, marks: np.ndarray, separator: int) -> bool:
    """Whether every quote opens or closes a cell, or is one of two in a quoted cell."""
    beside = np.zeros(256, bool)
    beside[[_QUOTE, _LF, _CR, separator]] = True
    opening, closing, last = marks[::2], marks[1::2], len(data) - 1
    before = beside[data[opening - 1]] | (opening == 0)
    after = beside[data[np.minimum(closing + 1, last)]] | (closing == last)
    return len(opening) == len(closing) and bool(before.all() and after.all())


def _quoted_cells(path: Path, content: memoryview, separator: bytes) -> np.ndarray:
    """Where quoted cells open and close, in turn, (2K,) int64; ValueError at the first bad one."""
    ends = rb"[\r\n" + re.escape(separator) + rb"]"
    blanks = b"" if separator == b" " else rb" *+"
    cell = re.compile(
        rb"(?:(?<=" + ends + rb')|\A)"[^"]*+(?:""[^"]*+)*+'
        rb'(?P<close>")?+(?P<end>' + blanks + rb"(?=" + ends + rb"|\Z))?+"
    )
    marks = []
    for match in cell.finditer(content):
        start, close = match.start(), match.start("close")
        if close >= 0 and match["end"] is not None:
            marks += [start, close]
            continue
        where = f"{path}, line {line_at(content, start)}: a cell begins with a quote"
        if close < 0:
            raise ValueError(f"{where} that is never closed; remove it{_OR_NO_QUOTES}")
        raise ValueError(
            f"{where}, and text follows the next quote, in line {line_at(content, close)}; "
            f"double the quotes inside a quoted cell, or remove stray ones{_OR_NO_QUOTES}"
        )
    return np.array(marks, np.int64)


def _is_number(cell: bytes) -> bool:
    """Whether a cell may stand in a column of numbers, quotes aside."""
    text = cell.decode("utf-8", errors="replace").strip('" \t')
    try:
        float(text)
    except ValueError:
        return text.casefold() in ("", "true", "false", "na", "null", "n/a")
    return True

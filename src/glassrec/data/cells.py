"""Cells as they are written become text without blanks around it, or numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

INTEGER = pa.int64()
NUMBER = pa.float64()
TEXT = pa.dictionary(pa.int32(), pa.string())
"""Every distinct text is stored once; an empty cell is the text ''."""

KINDS = {INTEGER: "a whole number", NUMBER: "a number", TEXT: "text"}
LARGEST = float(np.finfo(np.float32).max)
"""The largest number that models can compute with."""

MISSING = frozenset(pa.csv.ConvertOptions().null_values)
"""How a missing number may be written, by Arrow's list: '', NA, NaN, NULL, null, ..."""

LIST_MARK = "\x01"
"""Stands before each value of a list in a cell, so that a value may hold any other character."""

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)", re.ASCII | re.I)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)


class CellError(ValueError):
    """The first cell of a column that is not of the column's type."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def change_texts(
    column: pa.ChunkedArray, change: Callable[[pa.Array], pa.Array]
) -> pa.ChunkedArray:
    """A column of type TEXT with other texts; texts that are equal then become one."""
    changed = [change(chunk.dictionary) for chunk in column.chunks]
    if all(new.equals(chunk.dictionary) for new, chunk in zip(changed, column.chunks, strict=True)):
        return column
    chunks = []
    for texts, chunk in zip(changed, column.chunks, strict=True):
        again = texts.dictionary_encode()
        codes = again.indices.take(chunk.indices)
        chunks.append(pa.DictionaryArray.from_arrays(codes, again.dictionary))
    return pa.chunked_array(chunks, TEXT)


def check_utf8(column: pa.ChunkedArray, name: str) -> None:
    """CellError at the first text of a dictionary column that is not UTF-8."""
    cells = joined(column)
    texts = cells.dictionary.cast(pa.binary())
    try:
        texts.cast(pa.string())
    except pa.ArrowInvalid:
        _, wrong = _parsed(cells, texts, bytes.decode)
        row = wrong[0] if wrong else 0
        raise CellError(row, f"{name} is not UTF-8 text; save the file as UTF-8") from None


def numbers(column: pa.ChunkedArray, kind: pa.DataType, name: str) -> pa.ChunkedArray:
    """A TEXT column as INTEGER or NUMBER; true and false, in any case, are 1 and 0.

    A missing cell of a NUMBER is null.

    Raises:
        CellError: at the first cell that is no such number.
    """
    cells = joined(column)
    texts = pc.utf8_trim_whitespace(cells.dictionary)
    try:
        missing = pc.is_in(texts, pa.array(sorted(MISSING if kind == NUMBER else {""})))
        parsed = pc.if_else(missing, None, texts).cast(kind)
    except pa.ArrowInvalid:
        values, wrong = _parsed(cells, texts, _number if kind == NUMBER else _integer)
        if wrong is not None:
            row, text = wrong
            message = f"{name} is {shortened(text)!r}, not {KINDS[kind]}"
            raise CellError(row, f"{message}; correct or remove the line") from None
        parsed = pa.array(values, kind)
    return pa.chunked_array([parsed.take(cells.indices)])


def _number(text: str) -> float | None:
    if text in MISSING:
        return None
    if not _DECIMAL.fullmatch(text):
        return {"true": 1.0, "false": 0.0}[text.casefold()]
    return float(text)


def _integer(text: str) -> int | None:
    if not text:
        return None
    value = int(text) if _WHOLE.fullmatch(text) else None
    if value is None or not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def check_scale(column: pa.ChunkedArray, name: str) -> None:
    """CellError at the first finite number that is too large for float32."""
    ends = pc.min_max(column).as_py()
    if all(end is None or abs(end) <= LARGEST for end in ends.values()):
        return
    values = column.to_numpy()
    large = np.isfinite(values) & (np.abs(values) > LARGEST)
    if large.any():
        row = int(large.argmax())
        raise CellError(
            row,
            f"{name} is {values[row]}, too large to compute with (at most {LARGEST:.1e}); "
            "correct the value, or write the column in a larger unit",
        )


def checked_cells(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """The column, of which texts have no blanks around them, and strings have become TEXT.

    Raises:
        CellError: an INTEGER is missing, or a NUMBER is too large for float32.
    """
    if column.type == pa.string():
        column = pa.chunked_array([column.combine_chunks().dictionary_encode()])
    if column.type == TEXT:
        return change_texts(column, pc.utf8_trim_whitespace)
    if column.type == NUMBER:
        check_scale(column, name)
    elif column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise CellError(row, f"{name} is empty, not a whole number; correct or remove the line")
    return column


def joined(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """The cells of a TEXT column with one dictionary."""
    return column.unify_dictionaries().combine_chunks()


def _parsed(
    cells: pa.DictionaryArray, texts: pa.Array, parse: Callable[[Any], Any]
) -> tuple[list[Any], tuple[int, Any] | None]:
    """The `texts` of the dictionary of `cells`, parsed, and the first row whose text is refused."""
    parsed, wrong = [], []
    for code, text in enumerate(texts.to_pylist()):
        try:
            parsed.append(parse(text))
        except (ValueError, KeyError):
            parsed.append(None)
            wrong.append(code)
    if not wrong:
        return parsed, None
    codes = cells.indices.fill_null(-1).to_numpy()
    row = int(np.isin(codes, wrong).argmax())
    return parsed, (row, texts[int(codes[row])].as_py())


def split_values(cell: str, separator: str) -> list[str]:
    """The values of a cell, without blanks around them; at least one, which may be ''."""
    parts = cell.split(LIST_MARK if cell.startswith(LIST_MARK) else separator)
    return [part.strip() for part in parts if part.strip()] or [""]


def shortened(text: str) -> str:
    """The text, without the end of a long one."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def printable(name: str) -> str:
    """A name as one line of a message may show it, without the end of a long one."""
    return shortened(name if name.isprintable() else repr(name)[1:-1])


def some_names(names: list[str]) -> str:
    """The names, without the middle of a long list."""
    names = [printable(name) for name in names]
    return ", ".join(names if len(names) < 8 else [*names[:3], "...", names[-1]])

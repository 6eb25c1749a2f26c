"""Cells of plain values, as a CSV file, JSON or a frame gives them, as typed columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from glassrec.data.cells import LIST_MARK, TEXT, CellError, numbers
from glassrec.data.text_file import Origin


class Wanted(NamedTuple):
    """The columns to read."""

    types: dict[str, pa.DataType]
    """NUMBER, INTEGER or TEXT, by column"""
    lists: tuple[str, ...]
    """those whose cells may be lists"""


def typed_columns(cells: Mapping[str, Sequence[Any]], wanted: Wanted, place: Origin) -> pa.Table:
    """The wanted columns of cells of any plain values.

    Args:
        cells: by column; None is a missing value.
        wanted: the columns.
        place: where the cells come from.

    Raises:
        ValueError: at the first cell that is not of its column's type.
    """
    columns = {}
    for name, kind in wanted.types.items():
        allowed = name in wanted.lists
        try:
            texts = [
                cell if type(cell) is str else plain_text(cell, row, name, allowed=allowed)
                for row, cell in enumerate(cells[name])
            ]
            column = pa.chunked_array([_array(texts, name).dictionary_encode()])
            columns[name] = column if kind == TEXT else numbers(column, kind, name)
        except CellError as error:
            raise ValueError(f"{place.at(error.row)}: {error}") from None
    return pa.table(columns)


def _array(texts: list[str], name: str) -> pa.Array:
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write
        for row, text in enumerate(texts):
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise CellError(row, f"{name} is not UTF-8 text; correct the value") from None
        raise


def plain_text(cell: Any, row: int = 0, name: str = "", *, allowed: bool = False) -> str:
    """A value as text: as parquet's, a whole number has no decimal point, and null is ''."""
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return ""
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, float | np.floating):
        number = float(cell)
        if np.isnan(number):
            return ""
        return str(int(number)) if number.is_integer() and abs(number) < 1e16 else repr(number)
    if isinstance(cell, list | tuple | np.ndarray):
        if not allowed:
            raise CellError(row, f"{name} is a list, and takes one value; correct the value")
        texts = [plain_text(each, row, name).strip() for each in cell]
        if any(LIST_MARK in text for text in texts):
            raise CellError(row, f"{name} holds the control character U+0001; remove it")
        return "".join(LIST_MARK + text for text in texts)
    if isinstance(cell, dict):
        raise CellError(row, f"{name} is an object, and takes one value; correct the value")
    return str(cell)

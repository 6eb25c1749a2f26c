"""Parquet becomes frames of the same types as text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from glassrec.data.cells import INTEGER, KINDS, LIST_MARK, TEXT, CellError, check_utf8, numbers
from glassrec.data.content import existing
from glassrec.data.text_file import Origin, frame_of


def read_parquet(
    path: Path, types: Mapping[str, pa.DataType], lists: Collection[str] = ()
) -> pd.DataFrame:
    """The columns `types` of a parquet file, each NUMBER or TEXT, as in `read_text`; null is ''.

    A whole number has no decimal point, also where a missing one made the column float. In the
    texts of `lists`, the columns that may hold lists, LIST_MARK stands before each value.

    Raises:
        ValueError: the file is missing, empty or not parquet, or a column has another type.
    """
    with _refused(path):
        table = pa.parquet.ParquetFile(existing(path)).read(columns=list(types))
    origin = Origin(path, format=None)
    return frame_of(cast_columns(table, types, origin, lists), origin)


def cast_columns(
    table: pa.Table, types: Mapping[str, pa.DataType], origin: Origin, lists: Collection[str] = ()
) -> pa.Table:
    """The columns `types` of a table from `origin`, cast; see `read_parquet`.

    Raises:
        ValueError: a column, or a cell of it, has another type.
    """
    columns = {}
    for name, kind in types.items():
        try:
            columns[name] = _cast(table[name], kind, name, name in lists)
        except CellError as error:
            raise ValueError(f"{origin.at(error.row)}: {error}") from None
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            found = table[name].type
            advice = "list it under categorical and several" if _is_list(found) else "convert it"
            raise ValueError(
                f"{origin.path}: column {name!r} is not {KINDS[kind]} but {found}; {advice}, or "
                "leave it out"
            ) from None
    return pa.table(columns)


def parquet_batches(path: Path, rows: int) -> Iterator[pa.Table]:
    """All columns of a parquet file, so many rows at a time; ValueError if it is damaged."""
    with _refused(path):
        batches = pa.parquet.ParquetFile(existing(path)).iter_batches(rows)
    while True:
        with _refused(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield pa.Table.from_batches([batch])


def parquet_names(path: Path) -> list[str]:
    """The columns of a parquet file; ValueError if it is not one."""
    with _refused(path):
        return list(pa.parquet.read_schema(existing(path)).names)


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError):
        raise ValueError(
            f"{path}: not a readable parquet file; it may be cut off, so fetch it again"
        ) from None


def _cast(column: pa.ChunkedArray, kind: pa.DataType, name: str, several: bool) -> pa.ChunkedArray:
    types = pa.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_list(column.type):
        if not several:
            raise pa.ArrowTypeError("lists are allowed in multi-value columns only")
        return _marked(column, name).dictionary_encode()
    if types.is_fixed_size_binary(column.type):
        column = column.cast(pa.binary())
    if types.is_binary(column.type) or types.is_large_binary(column.type):
        check_utf8(column.dictionary_encode(), name)
        column = column.cast(pa.string())
    if kind == TEXT:
        return _text(column).dictionary_encode()
    texts = types.is_string, types.is_large_string, types.is_string_view
    if any(is_text(column.type) for is_text in texts):
        return numbers(_text(column).dictionary_encode(), kind, name)
    if kind == INTEGER and types.is_floating(column.type):  # a missing number makes it float
        return numbers(_text(column).dictionary_encode(), kind, name)
    if types.is_temporal(column.type):
        raise pa.ArrowTypeError("a time is no number")
    return column.cast(kind, safe=False)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_nested(column.type):
        raise pa.ArrowTypeError("a struct is no text")
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return pc.fill_null(column.cast(pa.string()), "")


def _marked(lists: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Each list as a text, in which LIST_MARK stands before each value."""
    values = pc.utf8_trim_whitespace(_text(pc.list_flatten(lists)).combine_chunks())
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    offsets = np.r_[0, np.cumsum(lengths)]
    at = pc.index(pc.match_substring(values, LIST_MARK), True).as_py()
    if at >= 0:
        row = int(np.searchsorted(offsets, at, side="right")) - 1
        raise CellError(row, f"{name} holds the control character U+0001; remove it")
    values = pc.binary_join_element_wise("", values, LIST_MARK)
    joined = pc.binary_join(pa.LargeListArray.from_arrays(offsets, values), "")
    return pa.chunked_array([joined.cast(pa.string())])


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)

"""Files become frames, fast; a malformed one is refused by file and line."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

INTEGER = pa.int64()
NUMBER = pa.float64()
TEXT = pa.dictionary(pa.int32(), pa.string())
"""Every distinct text is stored once; an empty cell is the text ''."""

_KINDS = {INTEGER: "a whole number", NUMBER: "a number", TEXT: "text"}


@dataclass(frozen=True)
class Origin:
    """Where the rows of a frame stand, for messages: row 0 is line `first` of `path`."""

    path: Path
    first: int = 1
    unit: str = "line"

    def at(self, row: int) -> str:
        """The file and the 1-based line of `row`."""
        return f"{self.path}, {self.unit} {row + self.first}"


def existing(path: Path) -> Path:
    """`path` itself, if it is a file that holds something; ValueError if not."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; check the folder and the name")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty; fetch it again")
    return path


def fingerprint(paths: Iterable[Path]) -> dict[str, str]:
    """The sha256 of each file by its name, read as a stream; ValueError if one is missing."""
    digests = {}
    for path in paths:
        with existing(path).open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def first_row(path: Path, separator: str = "\t") -> list[str]:
    """The cells of the first line of a text file."""
    with existing(path).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return next(csv.reader(file, delimiter=separator))


def read_text(
    path: Path,
    types: Mapping[str, pa.DataType],
    *,
    names: list[str] | None = None,
    separator: str = "\t",
    encoding: str = "utf8",
    quote: str | bool = False,
) -> pd.DataFrame:
    """The columns of a text file that has one row a line.

    Args:
        path: the file.
        types: the columns to read, each INTEGER, NUMBER (an empty cell is NaN) or TEXT.
        names: the header, if the file's first line is one; without it `types` names all columns.
        separator: what stands between cells; two characters are allowed where there is no header.
        encoding: of the text.
        quote: the character around cells that hold the separator; False if there is none.

    Raises:
        ValueError: the file is missing or empty, a line has too few or too many cells, or a cell
            is not of its column's type; the message names file and line.
    """
    columns = names or list(types)
    origin = Origin(path, first=2 if names else 1)
    convert = pa.csv.ConvertOptions(column_types=dict(types), include_columns=list(types))
    parse = pa.csv.ParseOptions(
        delimiter=separator[0] if len(separator) == 1 else "\x1f",
        quote_char=quote,
        ignore_empty_lines=False,
    )

    def read(threads: bool) -> pa.Table:
        options = pa.csv.ReadOptions(
            column_names=columns, skip_rows=origin.first - 1, encoding=encoding, use_threads=threads
        )
        return pa.csv.read_csv(_opened(path, separator), options, parse, convert)

    existing(path)
    try:
        table = read(threads=True)
    except pa.ArrowInvalid:
        try:
            table = read(threads=False)  # slower, but it counts lines
        except pa.ArrowInvalid as error:
            raise _malformed(path, columns, types, str(error)) from None
    return _frame(table, origin)


def read_parquet(path: Path, types: Mapping[str, pa.DataType]) -> pd.DataFrame:
    """The columns `types` of a parquet file, cast as in `read_text`.

    Raises:
        ValueError: the file is missing, empty or not parquet, or a column has another type.
    """
    try:
        table = pa.parquet.read_table(existing(path), columns=list(types))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a readable parquet file: {error}") from None
    columns = {name: _cast(table[name], kind, path, name) for name, kind in types.items()}
    return _frame(pa.table(columns), Origin(path, unit="row"))


def parquet_names(path: Path) -> list[str]:
    """The columns of a parquet file; ValueError if it is not one."""
    try:
        return pa.parquet.read_schema(existing(path)).names
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a readable parquet file: {error}") from None


def _opened(path: Path, separator: str) -> Path | pa.BufferReader:
    """What Arrow reads; it knows separators of one character only."""
    if len(separator) == 1:
        return path
    return pa.BufferReader(path.read_bytes().replace(separator.encode(), b"\x1f"))


def _malformed(
    path: Path, columns: list[str], types: Mapping[str, pa.DataType], message: str
) -> ValueError:
    """Arrow's complaint in our words: file, line, column, the value found and what to do."""
    line = re.search(r"Row #(\d+)", message)
    where = f"{path}, line {line[1]}" if line else str(path)
    cells = re.search(r"Expected (\d+) columns, got (\d+)", message)
    if cells:
        return ValueError(
            f"{where}: {cells[2]} cells where there should be {cells[1]} "
            f"({_shortened(columns)}); mend or remove the line"
        )
    column = re.search(r"In CSV column #(\d+)", message)
    value = re.search(r"invalid value (.*)", message)
    if not column:
        return ValueError(f"{where}: {message}")
    name = columns[int(column[1])]
    if not value:
        return ValueError(f"{where}: {name} is not UTF-8 text; save the file as UTF-8")
    kind = _KINDS[types[name]]
    return ValueError(f"{where}: {name} is {value[1]}, not {kind}; mend or remove the line")


def _shortened(names: list[str]) -> str:
    """The names, without the middle of a long list."""
    return ", ".join(names if len(names) < 8 else [*names[:3], "...", names[-1]])


def _frame(table: pa.Table, origin: Origin) -> pd.DataFrame:
    """A frame of a table that has rows and no empty whole number."""
    if table.num_rows == 0:
        raise ValueError(f"{origin.path}: the file holds no rows; fetch it again")
    for name in table.column_names:
        column = table[name]
        if column.null_count and column.type == INTEGER:
            row = pc.index(pc.is_null(column), True).as_py()
            raise ValueError(
                f"{origin.at(row)}: {name} is empty, not a whole number; mend or remove the line"
            )
    return table.to_pandas(split_blocks=True, self_destruct=True)


def _cast(column: pa.ChunkedArray, kind: pa.DataType, path: Path, name: str) -> pa.ChunkedArray:
    """A parquet column as INTEGER, NUMBER or TEXT."""
    try:
        if kind != TEXT:
            return column.cast(kind)
        return pc.fill_null(column.cast(pa.string()), "").dictionary_encode()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{path}: column {name!r} is not {_KINDS[kind]}: {error}") from None

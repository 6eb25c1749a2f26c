"""Delimited text becomes frames, fast; a malformed file is refused by file and line."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from glassrec.data.cells import (
    NUMBER,
    TEXT,
    CellError,
    check_scale,
    check_utf8,
    numbers,
    printable,
    replaced,
    shortened,
    stripped,
)
from glassrec.data.content import existing, text_content
from glassrec.data.lines import Lines, Rows

_UNIT = "\x1f"
"""Arrow knows separators of one byte only; this one replaces longer ones."""

_NO_ROWS = "the file holds no rows; fetch it again"


@dataclass(frozen=True)
class Format:
    """How a text file is delimited.

    Attributes:
        separator: what stands between cells.
        quotes: whether cells that hold the separator, quotes or line breaks are in double quotes.
        header: whether the first line names the columns.
        encoding: of the text.
    """

    separator: str = "\t"
    quotes: bool = False
    header: bool = False
    encoding: str = "utf8"

    @property
    def byte(self) -> str:
        """The separator in the text that Arrow reads."""
        return self.separator if len(self.separator.encode()) == 1 else _UNIT


@dataclass(frozen=True)
class Origin:
    """Where the rows of a frame come from, for messages.

    The line of a row is looked up when it is asked for, in the file.
    """

    path: Path
    format: Format | None = Format()
    """Of a text file; None: a parquet file, which has rows and no lines."""

    def at(self, row: int) -> str:
        """The file, and the line of `row`, which is counted from 0, as an editor shows it."""
        if self.format is None:
            return f"{self.path}, row {row + 1}"
        try:
            return f"{self.path}, line {Text.open(self.path, self.format).line(row)}"
        except (ValueError, IndexError):  # the file has changed since it was read
            return f"{self.path}, row {row + 1}"


def fingerprint(paths: Iterable[Path]) -> dict[str, str]:
    """The sha256 of each file by its name, read as a stream; ValueError if one is missing."""
    digests = {}
    for path in paths:
        with existing(path).open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def first_row(path: Path) -> list[str]:
    """The cells of the first row of a file whose cells are separated by tabs."""
    return Text.open(path).first_cells()


def read_text(
    path: Path, types: Mapping[str, pa.DataType], *, separator: str = "\t", encoding: str = "utf8"
) -> pd.DataFrame:
    """The columns of a text file without header or quotes, see `Text.read`."""
    return Text.open(path, Format(separator, encoding=encoding)).read(types)


def frame_of(table: pa.Table, origin: Origin) -> pd.DataFrame:
    """A frame of a table of INTEGER, NUMBER and TEXT columns.

    Raises:
        ValueError: it has no rows, an INTEGER is missing, or a NUMBER is too large for float32.
    """
    if table.num_rows == 0:
        raise ValueError(f"{origin.path}: {_NO_ROWS}")
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            columns[name] = stripped(column) if column.type == TEXT else _checked(column, name)
        except CellError as error:
            raise ValueError(f"{origin.at(error.row)}: {error}") from None
    return pa.table(columns).to_pandas(split_blocks=True, self_destruct=True)


def _checked(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    if column.type == NUMBER:
        check_scale(column, name)
    elif column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise CellError(row, f"{name} is empty, not a whole number; correct or remove the line")
    return column


@dataclass(frozen=True)
class Text:
    """A text file whose lines are found and whose quotes are in place."""

    path: Path
    format: Format
    content: memoryview
    lines: Lines

    @classmethod
    def open(cls, path: Path, form: Format = Format()) -> Text:
        """The file at `path`, which may be compressed.

        Raises:
            ValueError: it is missing, empty or no text, or a quote is out of place.
        """
        content = text_content(path)
        if form.byte != form.separator:
            data = bytes(content)
            if _UNIT.encode() in data:
                raise ValueError(
                    f"{path}: a separator of several characters is not possible, since the file "
                    "holds the control character U+001F; write it with another separator"
                )
            separator = form.separator.encode(form.encoding)
            content = memoryview(data.replace(separator, _UNIT.encode()))
        return cls(path, form, content, Lines(path, content, form.byte.encode(), form.quotes))

    def read(self, types: Mapping[str, pa.DataType]) -> pd.DataFrame:
        """The columns `types`; empty lines are skipped.

        Args:
            types: the columns to read, each INTEGER, NUMBER (a missing cell is NaN) or TEXT;
                without a header they are all columns, in order.

        Raises:
            ValueError: a row has too few or too many cells, or a cell is not of its column's type;
                the message names file and line.
        """
        names = self.first_cells() if self.format.header else list(types)
        columns = {str(names.index(name)): kind for name, kind in types.items()}
        if self.lines.broken:
            numeric = [int(at) for at, kind in columns.items() if kind != TEXT]
            self.lines.check_rows_apart(len(names), numeric, self.body)
        try:
            table = self.table(len(names), columns)
        except pa.ArrowInvalid:
            table = _read_carefully(self, names, columns)
        return frame_of(table.rename_columns(list(types)), Origin(self.path, self.format))

    def first_cells(self) -> list[str]:
        """The cells of the first row that is not empty, without blanks around them."""
        start, end = self._first
        try:
            row = bytes(self.content[start:end]).decode(self.format.encoding)
        except UnicodeDecodeError:
            raise ValueError(
                f"{self.path}, line {self.lines.line(start)}: not UTF-8 text; save the file as "
                "UTF-8"
            ) from None
        text = io.StringIO(row, newline="")
        try:
            cells = next(self._reader(text))
        except csv.Error as error:
            raise ValueError(f"{self.path}, line {self.lines.line(start)}: {error}") from None
        return [cell.strip() for cell in cells]

    def _reader(self, text: Iterable[str]) -> Iterator[list[str]]:
        if self.format.quotes:
            return csv.reader(text, delimiter=self.format.byte)
        return csv.reader(text, delimiter=self.format.byte, quoting=csv.QUOTE_NONE)

    @property
    def body(self) -> int:
        """Where the first row behind the header begins."""
        return min(self._first[1] + 1, len(self.content)) if self.format.header else 0

    def rows(self, columns: int) -> Rows:
        """Where the rows stand, without the header."""
        rows = self.lines.filled(columns)
        return rows.where(rows.starts >= self.body)

    def line(self, row: int) -> int:
        """The line of a row, which is counted from 0."""
        starts = self.rows(len(self.first_cells())).starts
        return self.lines.line(int(starts[row]))

    def table(
        self,
        columns: int,
        types: Mapping[str, pa.DataType],
        content: memoryview | bytes | None = None,
        block_size: int = 1 << 20,
        check: bool = True,
    ) -> pa.Table:
        """The columns `types` by their number; pa.ArrowInvalid if the file is malformed."""
        content = self.content[self.body :] if content is None else content
        table = pa.csv.read_csv(
            pa.BufferReader(pa.py_buffer(content)),
            pa.csv.ReadOptions(
                column_names=[str(at) for at in range(columns)],
                encoding=self.format.encoding,
                block_size=block_size,
            ),
            pa.csv.ParseOptions(
                delimiter=self.format.byte,
                quote_char='"' if self.format.quotes else False,
                newlines_in_values=self.lines.broken,
            ),
            pa.csv.ConvertOptions(
                column_types=dict(types), include_columns=list(types), check_utf8=check
            ),
        )
        if self.format.byte == self.format.separator or not self.format.quotes:
            return table
        for at, column in enumerate(table.columns):
            if column.type == TEXT:
                whole = replaced(column, _UNIT, self.format.separator)
                table = table.set_column(at, table.column_names[at], whole)
        return table

    @cached_property
    def _first(self) -> tuple[int, int]:
        """Where the first row that is not blank begins and ends."""
        for rows in self.lines.rows():
            for start, end in zip(rows.starts.tolist(), rows.ends.tolist(), strict=True):
                if bytes(self.content[start:end]).strip():
                    return start, end
        raise ValueError(f"{self.path}: {_NO_ROWS}")


def _read_carefully(text: Text, names: list[str], types: Mapping[str, pa.DataType]) -> pa.Table:
    """The table of a file that Arrow refused: without lines of blanks, and cell by cell.

    Raises:
        ValueError: at the first row with too few or too many cells, or the first cell that is not
            of its column's type.
    """
    rows = text.rows(len(names))
    if not len(rows.starts):
        raise ValueError(f"{text.path}: {_NO_ROWS}")
    ragged = rows.cells != len(names)
    if ragged.any():
        row = int(ragged.argmax())
        raise ValueError(
            f"{text.path}, line {text.lines.line(int(rows.starts[row]))}: {rows.cells[row]} cells "
            f"where there should be {len(names)} ({_some(names)}); correct or remove the line"
        )
    table = _texts(text, len(names), types, rows)
    columns = {}
    for at, kind in types.items():
        try:
            columns[at] = _converted(table[at], kind, names[int(at)])
        except CellError as error:
            line = text.lines.line(int(rows.starts[error.row]))
            raise ValueError(f"{text.path}, line {line}: {error}") from None
    return pa.table(columns)


def _texts(text: Text, columns: int, types: Iterable[str], rows: Rows) -> pa.Table:
    """The columns as texts, whose encoding is not checked, in blocks that hold the longest row."""
    longest = int((rows.ends - rows.starts).max(initial=0))
    block = min(max(1 << 20, 2 * longest + 2), 2**31 - 1)
    kinds = dict.fromkeys(types, TEXT)
    try:
        return text.table(columns, kinds, block_size=block, check=False)
    except pa.ArrowInvalid:  # a line of blanks
        ends = zip(rows.starts, rows.ends, strict=True)
        content = b"\n".join(bytes(text.content[start:end]) for start, end in ends)
    try:
        return text.table(columns, kinds, content, block, check=False)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{text.path}: {shortened(str(error))}") from None


def _converted(column: pa.ChunkedArray, kind: pa.DataType, name: str) -> pa.ChunkedArray:
    check_utf8(column, name)
    return column if kind == TEXT else numbers(column, kind, name)


def _some(names: list[str]) -> str:
    """The names, without the middle of a long list."""
    names = [printable(name) for name in names]
    return ", ".join(names if len(names) < 8 else [*names[:3], "...", names[-1]])

"""Delimited text becomes frames, fast; a malformed file is refused by file and line.

Arrow reads the file. One that it refuses is read again as texts, and, if rows have too few or too
many cells, row by row with the `csv` module.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from glassrec.data.cells import (
    TEXT,
    CellError,
    change_texts,
    check_utf8,
    checked_cells,
    numbers,
    shortened,
    some_names,
)
from glassrec.data.content import (
    LARGE_BYTES,
    check_no_rows_in_cells,
    rows_of_several_lines,
    text_content,
)

_UNIT = "\x1f"
"""Arrow supports separators of one byte only; this one replaces longer ones."""

_NO_ROWS = "the file holds no rows; fetch it again"
_LARGEST_BLOCK = 2**31 - 1
csv.field_size_limit(_LARGEST_BLOCK)  # the module's own limit, 128 KiB, refuses long cells


@dataclass(frozen=True)
class Format:
    """How a text file is delimited.

    Attributes:
        separator: of the cells.
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
    """Where the rows of a frame come from, for messages; lines are looked up in `text`, or else in
    the file, of whose rows `first_row` is the first.
    """

    path: Path
    format: Format | None = Format()
    """Of a text file; None: a parquet file, which has rows and no lines."""
    text: TextFile | None = None
    first_row: int = 0

    def at(self, row: int) -> str:
        """The file, and the line of `row`, which is counted from 0, as an editor shows it."""
        if self.format is not None:
            try:
                rows = (self.text or TextFile.open(self.path, self.format)).rows()
                return f"{self.path}, line {next(islice(rows, row, None)).line}"
            except (ValueError, StopIteration):  # the file has changed since it was read
                pass
        return f"{self.path}, row {self.first_row + row + 1}"

    def refuse_first(self, column: pd.Series, wrong: np.ndarray, reason: str) -> None:
        """ValueError at the first value of a column (N,) where `wrong` (N,) is true."""
        if wrong.any():
            row = int(wrong.argmax())
            value = column.iloc[row]
            shown = repr(value) if isinstance(value, str) else value
            raise ValueError(f"{self.at(row)}: {column.name} is {shown}{reason}")


def read_text(
    path: Path, types: Mapping[str, pa.DataType], *, separator: str = "\t", encoding: str = "utf8"
) -> pd.DataFrame:
    """The columns of a text file without header or quotes, see `TextFile.read`."""
    return TextFile.open(path, Format(separator, encoding=encoding)).read(types)


def frame_of(table: pa.Table, origin: Origin) -> pd.DataFrame:
    """A frame of a table of INTEGER, NUMBER and TEXT columns; see `check_table`."""
    return check_table(table, origin).to_pandas(split_blocks=True, self_destruct=True)


def check_table(table: pa.Table, origin: Origin) -> pa.Table:
    """The same table; texts have no blanks around them, and strings become TEXT.

    Raises:
        ValueError: it has no rows, an INTEGER is missing, or a NUMBER is too large for float32.
    """
    if table.num_rows == 0:
        raise ValueError(f"{origin.path}: {_NO_ROWS}")
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        try:
            checked = [*pool.map(checked_cells, table.columns, table.column_names)]
        except CellError as error:
            raise ValueError(f"{origin.at(error.row)}: {error}") from None
    return pa.table(checked, table.column_names)


class Row(NamedTuple):
    """A row as the `csv` module reads it."""

    line: int
    start: int
    """in bytes, as `end`, which is behind the line break"""
    end: int
    cells: list[str]
    """each byte as one character"""


@dataclass(frozen=True)
class TextFile:
    """A text file whose quotes are in place.

    `broken` (K, 2) int64 says where the rows with a line break in a cell begin and end; `content`
    begins behind so many `lines` of the file.
    """

    path: Path
    format: Format
    content: memoryview
    broken: np.ndarray
    lines: int = 0

    @classmethod
    def open(cls, path: Path, form: Format = Format()) -> TextFile:
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
        broken = np.empty((0, 2), np.int64)
        if form.quotes:
            broken = rows_of_several_lines(path, content, form.byte.encode())
        return cls(path, form, content, broken)

    def read(self, types: Mapping[str, pa.DataType]) -> pd.DataFrame:
        """The frame of `table`."""
        return self.table(types).to_pandas(split_blocks=True, self_destruct=True)

    def table(self, types: Mapping[str, pa.DataType]) -> pa.Table:
        """The columns `types`, INTEGER, NUMBER or TEXT; empty lines are skipped, no number is NaN.

        Without a header they are all columns, in order.

        Raises:
            ValueError: a row has too few or too many cells, or a cell is not of its column's type;
                the message names file and line.
        """
        names = self.first_cells if self.format.header else list(types)
        columns = {str(names.index(name)): kind for name, kind in types.items()}
        numeric = [int(at) for at, kind in columns.items() if kind != TEXT]
        rows = self.broken[self.broken[:, 0] >= self.body]
        check_no_rows_in_cells(
            self.path,
            self.content,
            rows,
            self.format.byte.encode(),
            len(names),
            numeric,
            self.lines,
        )
        # Strings are read faster, but are all in memory at once.
        quick = len(self.content) < LARGE_BYTES and self.format.byte == self.format.separator
        kinds = {
            at: pa.string() if quick and kind == TEXT else kind for at, kind in columns.items()
        }
        try:
            table = self._table(len(names), kinds, self.content[self.body :])
        except pa.ArrowInvalid:
            table = self._converted(names, columns)
        return check_table(table.rename_columns(list(types)), self.origin)

    @cached_property
    def first_cells(self) -> list[str]:
        """The cells of the first row that is not blank, without blanks around them."""
        cells = [cell.encode("latin-1") for cell in self._first.cells]
        try:
            return [cell.decode(self.format.encoding).strip() for cell in cells]
        except UnicodeDecodeError:
            raise ValueError(
                f"{self.path}, line {self._first.line}: not UTF-8 text; save the file as UTF-8"
            ) from None

    def rows(self) -> Iterator[Row]:
        """The rows without the header; in a file of two or more columns, blank rows are none."""
        keep_blank = len(self.first_cells) == 1
        for row in self._scan():
            if row.start >= self.body and row.cells and (keep_blank or not self._is_blank(row)):
                yield row

    @cached_property
    def _first(self) -> Row:
        for row in self._scan():
            if not self._is_blank(row):
                return row
        raise ValueError(f"{self.path}: {_NO_ROWS}")

    @property
    def origin(self) -> Origin:
        """Where the rows come from, for messages."""
        return Origin(self.path, self.format, self)

    @property
    def body(self) -> int:
        """Where the first row behind the header begins, in bytes."""
        return self._first.end if self.format.header else 0

    def _is_blank(self, row: Row) -> bool:
        if len(row.cells) > 1:
            return False
        return not bytes(self.content[row.start : row.end]).decode(errors="replace").strip()

    def _scan(self) -> Iterator[Row]:
        form, line, end = self.format, self.lines, 0
        stream = pa.BufferReader(pa.py_buffer(self.content))

        def lines() -> Iterator[str]:
            nonlocal line, end
            for text in io.TextIOWrapper(stream, encoding="latin-1", newline=""):
                line, end = line + 1, end + len(text)
                yield text

        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form.quotes else csv.QUOTE_NONE
        first, start = line + 1, 0
        for cells in csv.reader(lines(), delimiter=form.byte, quoting=quoting):
            yield Row(first, start, end, cells)
            first, start = line + 1, end

    def _table(
        self,
        columns: int,
        types: Mapping[str, pa.DataType],
        content: memoryview | bytearray,
        block_size: int = 1 << 20,
        check: bool = True,
    ) -> pa.Table:
        """The columns `types` by their number; pa.ArrowInvalid if the content is malformed."""
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
                newlines_in_values=len(self.broken) > 0,
            ),
            pa.csv.ConvertOptions(
                column_types=dict(types), include_columns=list(types), check_utf8=check
            ),
        )
        if self.format.byte == self.format.separator or not self.format.quotes:
            return table
        for at, column in enumerate(table.columns):
            if column.type == TEXT:
                whole = change_texts(
                    column, lambda texts: pc.replace_substring(texts, _UNIT, self.format.separator)
                )
                table = table.set_column(at, table.column_names[at], whole)
        return table

    def _converted(self, names: list[str], types: Mapping[str, pa.DataType]) -> pa.Table:
        """The table of a file that Arrow refused, cell by cell; ValueError at the first bad one."""
        table, columns = self._texts(names, types), {}
        for at, kind in types.items():
            name, column = names[int(at)], table[at]
            try:
                check_utf8(column, name)
                columns[at] = column if kind == TEXT else numbers(column, kind, name)
            except CellError as error:
                line = next(islice(self.rows(), error.row, None)).line
                raise ValueError(f"{self.path}, line {line}: {error}") from None
        return pa.table(columns)

    def _texts(self, names: list[str], types: Iterable[str]) -> pa.Table:
        """The columns as texts, whose encoding is not checked."""
        texts = dict.fromkeys(types, TEXT)
        try:
            return self._table(len(names), texts, self.content[self.body :], check=False)
        except pa.ArrowInvalid:  # a ragged row, a row of blanks, or one that is longer than a block
            content = self._regular_rows(names)
        try:
            return self._table(len(names), texts, content, check=False)
        except pa.ArrowInvalid:
            block_size = min(len(content) + 1, _LARGEST_BLOCK)
        try:
            return self._table(len(names), texts, content, block_size, check=False)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{self.path}: {shortened(str(error))}") from None

    def _regular_rows(self, names: list[str]) -> bytearray:
        """The bytes of all rows; ValueError at the first with too few or too many cells."""
        content = bytearray()
        for row in self.rows():
            if len(row.cells) != len(names):
                raise ValueError(
                    f"{self.path}, line {row.line}: {len(row.cells)} cells where there should be "
                    f"{len(names)} ({some_names(names)}); correct or remove the line"
                )
            content += self.content[row.start : row.end]
        if not content:
            raise ValueError(f"{self.path}: {_NO_ROWS}")
        return content

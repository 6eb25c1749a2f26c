"""Files of new rows as chunks of cells: CSV, JSON lines and parquet, read as streams.

Training data is read at once, see `data.text_file`; here memory is bounded, and standard input can
be read. The rules are the same, but for blanks behind a closing quote, which are refused here.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import pandas as pd
import pyarrow as pa

from glassrec.data.cells import TEXT, shortened, some_names
from glassrec.data.content import compression, existing, is_number, is_parquet, refuse_binary
from glassrec.data.parquet import cast_columns, parquet_batches, parquet_names
from glassrec.data.table import SEPARATORS, separator_of
from glassrec.data.text_file import Origin
from glassrec.inference.plain_cells import Wanted, typed_columns

STANDARD_INPUT = "-"
_UNIT = "\x1f"
"""The csv module supports separators of one character only; this one replaces longer ones."""


Choose = Callable[[Sequence[str], str], Wanted]
"""The columns to read, given the names of all columns and the source in words."""


@dataclass(frozen=True)
class Place(Origin):
    """Where the rows of a chunk come from: the line of each in its file."""

    lines: Sequence[int] = ()
    unit: Literal["line", "row"] = "line"

    def at(self, row: int) -> str:
        """The file and the line of a row of the chunk."""
        return f"{self.path}, {self.unit} {self.lines[row]}"


class Chunk(NamedTuple):
    """Some rows of a file."""

    frame: pd.DataFrame
    """all columns as they are"""
    cells: pa.Table
    """those to read, as NUMBER, INTEGER or TEXT"""
    place: Place


def chunks(
    source: Path | str, choose: Choose, separator: str | None, rows: int, *, quotes: bool = True
) -> Iterator[Chunk]:
    """The rows of a file, at most `rows` at a time; see `rows.read_rows`."""
    if str(source) != STANDARD_INPUT and is_parquet(Path(source)):
        yield from _parquet_chunks(Path(source), choose, rows)
        return
    with ExitStack() as stack:
        path, stream = _open(source, stack)
        first = _first_character(stream)
        lines = _Lines(path, stream)
        if first == b"{":
            yield from _json_chunks(lines, choose, rows)
        elif first == b"[":
            raise ValueError(f"{path}, line 1: a list in JSON; write one object a line")
        else:
            form = separator_of(path, separator)
            yield from _csv_chunks(lines, choose, rows, form, quotes)


def _open(source: Path | str, stack: ExitStack) -> tuple[Path, io.BufferedReader]:
    if str(source) == STANDARD_INPUT:
        stream: Any = sys.stdin.buffer
        if stream.peek(4)[:4] == b"PAR1":
            raise ValueError("standard input: parquet cannot be read as a stream; name the file")
        return Path("standard input"), stream
    path = existing(Path(source))
    file: Any = stack.enter_context(path.open("rb"))
    if codec := compression(file.peek(64)):
        packed = stack.enter_context(pa.OSFile(str(path)))
        file = io.BufferedReader(stack.enter_context(pa.CompressedInputStream(packed, codec)))
    try:
        refuse_binary(path, file.peek(64))
    except OSError:
        raise _damaged(path) from None
    return path, file


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path}: the compressed data is damaged or cut off; fetch it again")


def _first_character(stream: io.BufferedReader) -> bytes:
    return stream.peek(4096)[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]


class _Lines:
    """The lines of a text, each with its line break; `number` is that of the last one."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self.number, self.change = path, 0, ("", "")
        self._text = io.TextIOWrapper(
            stream, encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        self.since: list[str] = []
        """the lines since a reader cleared it"""

    def __iter__(self) -> Iterator[str]:
        try:
            for line in self._text:
                self.number += 1
                if not line.isascii() or "\0" in line:
                    self._check(line)
                line = line.replace(*self.change) if self.change[0] else line
                self.since.append(line)
                yield line
        except OSError:
            raise _damaged(self.path) from None
        finally:
            with suppress(ValueError):  # the file is closed
                self._text.detach()

    def _check(self, line: str) -> None:
        where = f"{self.path}, line {self.number}"
        if "\0" in line:
            raise ValueError(
                f"{where}: there is a NUL byte, so the file is binary or damaged; export the table "
                "again as UTF-8 CSV"
            )
        try:
            line.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where}: not UTF-8 text; save the file as UTF-8") from None


# --- CSV -------------------------------------------------------------------------------------


def _csv_chunks(
    lines: _Lines, choose: Choose, rows: int, separator: str, quotes: bool
) -> Iterator[Chunk]:
    byte = separator if len(separator) == 1 else _UNIT
    if byte != separator:
        lines.change = (separator, byte)
    found = _csv_rows(lines, byte, separator, quotes)
    first, header = next(found, (0, []))
    names = [name.strip() for name in header]
    if not names:
        raise ValueError(f"{lines.path}: the file holds no rows; fetch it again")
    for word, character in SEPARATORS.items():
        if len(names) == 1 and character in names[0]:
            raise ValueError(
                f"{lines.path}, line {first}: the header is one cell, {shortened(names[0])!r}; did "
                f"you mean separator={word}"
            )
    wanted = choose(names, f"{lines.path}, line {first}")
    numeric = [names.index(name) for name, kind in wanted.types.items() if kind != TEXT]
    body = _body(found, lines, names, byte, numeric)
    some = list(islice(body, rows))
    if not some:
        raise ValueError(f"{lines.path}: the file holds no rows; fetch it again")
    while some:
        place = Place(lines.path, lines=[line for line, _ in some])
        frame = pd.DataFrame([cells for _, cells in some], columns=names, dtype=object)
        texts = {name: frame.iloc[:, names.index(name)].tolist() for name in wanted.types}
        yield Chunk(frame, typed_columns(texts, wanted, place), place)
        some = list(islice(body, rows))


def _csv_rows(
    lines: _Lines, byte: str, separator: str, quotes: bool
) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row, empty ones too; `lines.since` are the lines of the last row."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=byte, quoting=quoting, strict=True)
    line = 1
    while True:
        lines.since.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = (
                "a quote is never closed"
                if "end of data" in str(error)
                else ("text follows a closing quote; double the quotes inside a quoted cell")
            )
            raise ValueError(f"{lines.path}, line {line}: {reason}, or remove stray ones") from None
        if byte != separator:
            cells = [cell.replace(byte, separator) for cell in cells]
        yield line, cells
        line = lines.number + 1


def _body(
    rows: Iterator[tuple[int, list[str]]],
    lines: _Lines,
    names: list[str],
    byte: str,
    numeric: Sequence[int],
) -> Iterator[tuple[int, list[str]]]:
    """The rows without blank ones; ValueError at a ragged one."""
    for line, cells in rows:
        if len(cells) != len(names) or len(names) == 1:
            blank = not cells or (len(cells) == 1 and not cells[0].strip())
            if blank and (len(names) > 1 or not cells):
                continue
        if len(lines.since) > 1 and all(
            _reads_as_row(each, byte, len(names), numeric) for each in lines.since if each.strip()
        ):
            raise ValueError(
                f"{lines.path}, line {line}: a quoted cell goes on to line {lines.number}, and "
                "each of these lines reads as a row of its own; remove the stray quotes"
            )
        if len(cells) != len(names):
            raise ValueError(
                f"{lines.path}, line {line}: {len(cells)} cells where there should be "
                f"{len(names)} ({some_names(names)}); correct or remove the line"
            )
        yield line, cells


def _reads_as_row(line: str, byte: str, columns: int, numeric: Sequence[int]) -> bool:
    cells = line.rstrip("\r\n").split(byte)
    return len(cells) == columns and all(is_number(cells[at].encode()) for at in numeric)


# --- JSON lines ------------------------------------------------------------------------------


def _json_chunks(lines: _Lines, choose: Choose, rows: int) -> Iterator[Chunk]:
    objects = _objects(lines)
    line, first = next(objects)
    names = [*first]
    wanted = choose(names, f"{lines.path}, line {line}")
    body = chain([(line, first)], objects)
    while some := list(islice(body, rows)):
        place = Place(lines.path, lines=[number for number, _ in some])
        for number, each in some:
            for name in {*each} ^ {*names}:
                if name in wanted.types or name not in names:
                    reason = "which line 1 lacks" if name in each else "which line 1 has"
                    raise ValueError(
                        f"{lines.path}, line {number}: the key {name!r}, {reason}, is "
                        f"{'there' if name in each else 'missing'}; write the same keys in each "
                        "line, and null where nothing is known"
                    )
        columns = {name: [each.get(name) for _, each in some] for name in names}
        frame = pd.DataFrame({name: pd.Series(c, dtype=object) for name, c in columns.items()})
        yield Chunk(frame, typed_columns(columns, wanted, place), place)


def _objects(lines: _Lines) -> Iterator[tuple[int, dict[str, Any]]]:
    for line in lines:
        lines.since.clear()
        if not line.strip():
            continue
        where = f"{lines.path}, line {lines.number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON: {shortened(str(error))}") from None
        if not isinstance(found, dict):
            raise ValueError(f"{where}: {shortened(line.strip())} is no object of names and values")
        yield lines.number, found


# --- parquet ---------------------------------------------------------------------------------


def _parquet_chunks(path: Path, choose: Choose, rows: int) -> Iterator[Chunk]:
    wanted, start = choose(parquet_names(path), str(path)), 0
    for table in parquet_batches(path, rows):
        place = Place(path, lines=range(start + 1, start + 1 + len(table)), unit="row")
        cells = cast_columns(table, wanted.types, place, wanted.lists)
        yield Chunk(table.to_pandas(ignore_metadata=True, types_mapper=pd.ArrowDtype), cells, place)
        start += len(table)
    if not start:
        raise ValueError(f"{path}: the file holds no rows; fetch it again")

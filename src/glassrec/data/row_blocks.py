"""The rows of a large file, in blocks of bounded size; errors name the file and the line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import pyarrow as pa

from glassrec.data.columns import Columns
from glassrec.data.content import (
    compression,
    existing,
    refuse_binary,
    rows_of_several_lines,
    text_content,
)
from glassrec.data.parquet import cast_columns, parquet_batches
from glassrec.data.splits import Splitter
from glassrec.data.text_file import Format, Origin, TextFile, check_table

BLOCK_BYTES, BLOCK_ROWS = 1 << 25, 1 << 17
"""Of a text file, and of a parquet file."""

Blocks = Iterator[tuple[pa.Table, Origin]]


class RowBlocks(NamedTuple):
    """Rows that are encoded one by one, with what the encoding needs to know."""

    columns: Columns
    split: Splitter
    min_count: int
    read: Callable[[], Blocks]

    def streams(self) -> bool:
        """Whether no row's encoding depends on another row, but for vocabularies and scales."""
        columns = self.columns
        others = columns.user, columns.item, columns.time, columns.rating, columns.split
        ranked = self.split.ranked or not columns.label
        return not (any(others) or columns.several or ranked)


def text_blocks(
    path: Path,
    form: Format,
    types: Mapping[str, pa.DataType],
    check: Callable[[list[str]], None] | None = None,
) -> Blocks:
    """The columns `types` of a text file, block by block; see `TextFile.table`.

    The separator is a single byte. `check` may refuse the names in the header.

    Raises:
        ValueError: as `TextFile.open` and `table`.
    """
    header, lines = b"", 0
    for block in _whole_lines(path, form.quotes):
        if lines and block.isspace():
            continue
        if not lines:
            refuse_binary(path, memoryview(block))
            block = block.removeprefix(b"\xef\xbb\xbf")
        if b"\0" in block:
            text_content(path)  # says what is wrong
        content = header + block
        before = lines - header.count(b"\n")
        broken = np.empty((0, 2), np.int64)
        if form.quotes:
            broken = rows_of_several_lines(path, memoryview(content), form.byte.encode(), before)
        text = TextFile(path, form, memoryview(content), broken, before)
        if form.header and not header:
            if check is not None:
                check(text.first_cells)
            header = bytes(content[: text.body])
        lines += block.count(b"\n")
        yield text.table(types), text.origin
    if not lines:
        text_content(path)  # refuses an empty file


def parquet_blocks(path: Path, types: Mapping[str, pa.DataType]) -> Blocks:
    """The columns `types` of a parquet file, block by block; see `read_parquet`."""
    first = 0
    for table in parquet_batches(path, BLOCK_ROWS):
        origin = Origin(path, None, first_row=first)
        yield check_table(cast_columns(table, types, origin), origin), origin
        first += table.num_rows


def _whole_lines(path: Path, quotes: bool) -> Iterator[bytes]:
    """The bytes of a text file, unpacked, in blocks that end where a row ends."""
    with existing(path).open("rb") as file:
        codec = compression(file.read(64))
        file.seek(0)
        source = file if codec is None else pa.CompressedInputStream(pa.PythonFile(file), codec)
        rest = b""
        while True:
            try:
                block = cast(BinaryIO, source).read(BLOCK_BYTES)
            except (OSError, pa.ArrowException):
                text_content(path)  # refuses damaged files
                raise
            if not block:
                break
            rest += block
            cut = _last_row_end(rest) if quotes and b'"' in rest else rest.rfind(b"\n") + 1
            if cut:
                yield rest[:cut]
                rest = rest[cut:]
        if rest:
            yield rest


def _last_row_end(data: bytes) -> int:
    """Behind the last line break outside of quotes; 0 if there is none."""
    cut = data.rfind(b"\n") + 1
    odd = data.count(b'"', 0, cut) % 2
    while cut and odd:
        end = data.rfind(b"\n", 0, data.rfind(b'"', 0, cut)) + 1
        odd ^= data.count(b'"', end, cut) % 2
        cut = end
    return cut

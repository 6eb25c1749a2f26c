"""Rows that a command writes: whole or not at all, as CSV, parquet or JSON lines."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from glassrec.run import replacing

Write = Callable[[pd.DataFrame], None]


@contextmanager
def row_output(out: Path | None) -> Iterator[Write]:
    """Writes frames with the same columns, one after the other.

    Until the block has ended without an error, nothing is there.

    Args:
        out: the file: parquet if its name ends in .parquet, JSON lines for .jsonl, .ndjson or
            .json, CSV for others; None is standard output, as CSV.
    """
    if out is not None:
        with replacing(out) as part, _writer(part, out.suffix.lower()) as write:
            yield write
        return
    with TemporaryDirectory() as folder:
        path = Path(folder, "rows.csv")
        with _writer(path, "") as write:
            yield write
        with path.open(encoding="utf-8", newline="") as text:
            shutil.copyfileobj(text, sys.stdout)


@contextmanager
def _writer(path: Path, suffix: str) -> Iterator[Write]:
    if suffix == ".parquet":
        with closing(_Parquet(path)) as parquet:
            yield parquet.write
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        yield (
            _JsonLines(file).write if suffix in (".jsonl", ".ndjson", ".json") else _Csv(file).write
        )


class _Csv:
    def __init__(self, file: Any) -> None:
        self._file, self._header = file, True

    def write(self, frame: pd.DataFrame) -> None:
        """Append rows; as RFC 4180, with line breaks of one character."""
        frame = frame.copy(deep=False)
        for place, kind in enumerate(frame.dtypes):
            if pd.api.types.is_object_dtype(kind) or isinstance(kind, pd.ArrowDtype):
                cells = [_cell(cell) for cell in frame.iloc[:, place].astype(object)]
                frame.isetitem(place, np.array([*cells, None], dtype=object)[:-1])
        text = frame.to_csv(index=False, header=self._header)
        if "\r" in text:  # minimal quoting leaves it bare
            text = frame.to_csv(index=False, header=self._header, quoting=csv.QUOTE_ALL)
        self._file.write(text)
        self._header = False


def _cell(cell: Any) -> Any:
    """A list as `a|b`, and other values as they are."""
    if isinstance(cell, list | np.ndarray):
        return "|".join(map(str, cell))
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict) else cell


class _JsonLines:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, frame: pd.DataFrame) -> None:
        """Append an object a row; a number that is not finite becomes null."""
        names = [str(name) for name in frame]
        columns = [frame.iloc[:, place].astype(object).tolist() for place in range(len(names))]
        for cells in zip(*columns, strict=True):
            row = dict(zip(names, map(_plain, cells), strict=True))
            self._file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _plain(cell: Any) -> Any:
    if isinstance(cell, np.ndarray):
        return [_plain(each) for each in cell.tolist()]
    if cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and not np.isfinite(cell)):
        return None
    return cell.item() if isinstance(cell, np.generic) else cell


class _Parquet:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: pa.parquet.ParquetWriter | None = None

    def close(self) -> None:
        """Complete the file."""
        if self._file is not None:
            self._file.close()

    def write(self, frame: pd.DataFrame) -> None:
        """Append a row group; ValueError where a column has values of several types."""
        schema = None if self._file is None else self._file.schema
        try:
            table = pa.Table.from_pandas(frame, schema, preserve_index=False)
        except (pa.ArrowException, ValueError) as error:
            raise ValueError(
                f"{self._path.name.strip('.')}: a column has values of several types ({error}); "
                "write CSV or JSON lines"
            ) from None
        if self._file is None:
            table = table.replace_schema_metadata(None)
            self._file = pa.parquet.ParquetWriter(self._path, table.schema)
        self._file.write_table(table.replace_schema_metadata(None))

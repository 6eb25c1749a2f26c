"""A store is written from blocks of rows: what is held in memory does not grow with their number.

The rows are parsed once, into a scratch file for each column. In that of a field stand codes: the
places of texts in the dictionary of a block. The dictionaries become one when all rows are known,
and the codes ids.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import torch

from glassrec.data.audit import audit_of_blocks
from glassrec.data.batch import Batch, Split
from glassrec.data.column_findings import Finding, number_findings, text_findings
from glassrec.data.dataset import Dataset
from glassrec.data.encoding import Encoder, Scaler, Scalers, check_finite, logged
from glassrec.data.log_checks import check_log
from glassrec.data.raw_tables import RawTables, sample_places
from glassrec.data.row_blocks import RowBlocks
from glassrec.data.saved_encoder import SPLITS
from glassrec.data.schema import UNSEEN, Field
from glassrec.data.store_files import INTEGERS, NpyWriter, write_schema

AUDITED = 1 << 20
"""Rows whose numbers are looked at for outliers, evenly spaced: all of a smaller file."""

PENDING = 1 << 16
"""Texts of blocks that are collected before they are joined with those of earlier blocks."""

KEYS_AT_ONCE = 1 << 21

KEY, LABEL = "/key", "/label"
"""Scratch columns beside those of the data, whose files are numbered in this order."""


class _Texts:
    """The distinct texts of a field as they appear, from the dictionaries of blocks."""

    def __init__(self, path: Path) -> None:
        self._path, self._sizes = path, list[int]()
        self._pending: list[pa.Array] = []
        self.known = pa.array([], pa.large_string())

    def add(self, texts: pa.Array) -> None:
        """Add the dictionary of the next block."""
        self._pending.append(texts)
        self._sizes.append(len(texts))
        if sum(map(len, self._pending)) > max(PENDING, len(self.known)):
            self.join()

    def join(self) -> None:
        """Find the new texts among those that were added."""
        joined = pa.concat_arrays([self.known, *self._pending]).dictionary_encode()
        with self._path.open("ab") as file:
            joined.indices.to_numpy()[len(self.known) :].tofile(file)
        self.known, self._pending = joined.dictionary, []

    def places(self) -> Iterator[np.ndarray]:
        """For each block, where the texts of its dictionary are among all."""
        with self._path.open("rb") as file:
            for size in self._sizes:
                yield np.fromfile(file, np.int32, size)


class _Scratch:
    """A file for each column of the parsed rows, and the texts of each field."""

    def __init__(self, folder: Path, source: RowBlocks) -> None:
        folder.mkdir()
        self.folder, self.columns = folder, source.columns
        columns, self.blocks = source.columns, list[slice]()
        self._names = (*columns.fields, *columns.dense, KEY, LABEL)
        self.texts = {name: _Texts(self._path(name, ".texts")) for name in columns.fields}
        with ExitStack() as stack:
            files = {n: stack.enter_context(self._path(n).open("wb")) for n in self._names}
            for frame, origin in source.read():
                frame = check_log(frame, columns, origin)
                for name, texts in self.texts.items():
                    frame[name].cat.codes.to_numpy().astype(np.int32).tofile(files[name])
                    texts.add(pa.array(frame[name].cat.categories, pa.large_string()))
                for name in columns.dense:
                    frame[name].to_numpy(np.float64).tofile(files[name])
                keys = pd.util.hash_pandas_object(frame[sorted(columns.all)], index=False)
                keys.to_numpy(np.uint64).tofile(files[KEY])
                frame[columns.label].to_numpy(np.float32).tofile(files[LABEL])
                self.blocks.append(slice(self.rows, self.rows + len(frame)))
        for texts in self.texts.values():
            texts.join()

    def _path(self, name: str, end: str = "") -> Path:
        return self.folder / f"{self._names.index(name)}{end}"

    @property
    def rows(self) -> int:
        return self.blocks[-1].stop if self.blocks else 0

    def read(self, name: str, kind: Any, rows: slice) -> np.ndarray:
        """Some rows of a column."""
        start = np.dtype(kind).itemsize * rows.start
        return np.fromfile(self._path(name), kind, rows.stop - rows.start, offset=start)

    def numbers(self, name: str, rows: np.ndarray) -> pd.Series:
        """Ascending rows of a dense column."""
        own = ((block, _within(rows, block)) for block in self.blocks)
        values = [self.read(name, np.float64, block)[at] for block, at in own]
        return pd.Series(np.concatenate(values), name=name)

    def strings(self, name: str, rows: np.ndarray) -> pd.Series:
        """Ascending rows of a field, whose codes are no ids yet."""
        pairs = zip(self.blocks, self.texts[name].places(), strict=True)
        own = [places[self.read(name, np.int32, b)[_within(rows, b)]] for b, places in pairs]
        found = self.texts[name].known.take(pa.array(np.concatenate(own)))
        return pd.Series(found.to_pandas(), dtype="str")

    def encode(self, name: str, part: np.ndarray, min_count: int, offset: int) -> pa.Array:
        """Replace the codes of a field by global ids; gives the vocabulary, see `Vocabulary`."""
        texts = self.texts[name]
        counts = np.zeros(len(texts.known), np.int64)
        for block, places in zip(self.blocks, texts.places(), strict=True):
            own = self.read(name, np.int32, block)[part[block] == 0]
            counts[places] += np.bincount(own, minlength=len(places))
        kept = np.flatnonzero(counts >= max(min_count, 1))
        known = texts.known.take(pa.array(kept))
        order = pc.array_sort_indices(known)
        ids = np.full(len(counts), offset + UNSEEN, np.int32)
        ids[kept[order.to_numpy()]] = np.arange(offset + 1, offset + 1 + len(kept))
        with self._path(name).open("r+b") as file:
            for block, places in zip(self.blocks, texts.places(), strict=True):
                ids[places][self.read(name, np.int32, block)].tofile(file)
        return known.take(order)

    def fit(self, name: str, part: np.ndarray, log: bool) -> Scaler:
        """The scaler of the training rows of a dense column."""
        with (self.folder / "known").open("w+b") as file:
            for block in self.blocks:
                own = self.read(name, np.float64, block)[part[block] == 0]
                logged(own[~np.isnan(own)], log).tofile(file)

            def read(start: int, count: int) -> np.ndarray:
                file.seek(8 * start)
                return np.fromfile(file, np.float64, count)

            return Scaler.fit_blocks(read, file.tell() // 8, log)

    def equal_rows(self, part: np.ndarray) -> tuple[int, int]:
        """How many rows equal an earlier one, and how many held-out rows equal a training row.

        Equal are rows of equal keys, which are compared range by range.
        """
        ranges = -(-self.rows // KEYS_AT_ONCE)
        equal = shared = 0
        for number in range(ranges):
            keys, held = np.empty(0, np.uint64), np.empty(0, bool)
            for block in self.blocks:
                own = self.read(KEY, np.uint64, block)
                here = own % np.uint64(ranges) == number
                keys = np.append(keys, own[here])
                held = np.append(held, part[block][here] > 0)
            ordered = np.sort(keys)
            if again := int((ordered[1:] == ordered[:-1]).sum()):
                equal += again
                shared += int(np.isin(keys[held], keys[~held]).sum())
        return equal, shared


def _within(rows: np.ndarray, block: slice) -> np.ndarray:
    """The ascending rows that lie in a block, counted from its start."""
    start, stop = np.searchsorted(rows, (block.start, block.stop))
    return rows[start:stop] - block.start


def encode_rows(source: RowBlocks, seed: int, scalers: Scalers, folder: Path) -> None:
    """Write the store of rows that are encoded one by one.

    It holds what `write_dataset` writes of the rows in memory, bit for bit. Of more than `AUDITED`
    rows, only so many are looked at for outliers.

    Raises:
        ValueError: as `Source.load`.
    """
    scratch, columns = _Scratch(folder / "scratch", source), source.columns
    labels = scratch.read(LABEL, np.float32, slice(0, scratch.rows))
    frame = pd.DataFrame({columns.label: labels})
    divided = source.split.split(frame, columns, source.split.generator(seed))
    part = np.empty(scratch.rows, np.uint8)
    for number, each in enumerate(divided):
        part[each.frame.index] = number
    counts = [len(each.labels) for each in divided]
    ones = [int(each.labels.sum()) for each in divided]
    del labels, divided
    shown = np.flatnonzero(part == 1)
    shown = shown[sample_places(len(shown))]
    spaced = np.arange(0, scratch.rows, -(-scratch.rows // AUDITED))
    samples, fields, fitted = dict[str, Any](), list[Field](), dict[str, Scaler]()
    findings: list[Finding] = []
    (folder / "vocabularies").mkdir()
    for at, name in enumerate(columns.fields):
        values = pd.Series(scratch.texts[name].known.to_pandas(), dtype="str")
        only = values[0] if len(values) == 1 else None
        findings += text_findings(name, values, only, scratch.rows, columns)
        samples[name] = scratch.strings(name, shown)
        offset = sum(each.size for each in fields)
        known = scratch.encode(name, part, source.min_count, offset).cast(pa.string())
        pa.parquet.write_table(
            pa.table([known], ["value"]), folder / "vocabularies" / f"{at}.parquet"
        )
        fields.append(Field(name, len(known) + 1))
    for name in columns.dense:
        fitted[name] = scalers.get(name) or scratch.fit(name, part, name in columns.log)
        findings += number_findings(scratch.numbers(name, spaced), columns)
        samples[name] = scratch.numbers(name, shown)
    no_rows = pd.DataFrame({name: pd.Series(dtype="str") for name in columns.fields})
    encoder = Encoder.fit(no_rows, columns, scalers=fitted)
    encoder = replace(encoder, schema=replace(encoder.schema, fields=tuple(fields)))
    _write_rows(scratch, part, counts, encoder, folder)
    audit = audit_of_blocks(columns, findings, scratch.equal_rows(part), counts, ones)
    (folder / "raw").mkdir()
    file = folder / "raw" / f"{RawTables._fields[-1]}.parquet"
    pd.DataFrame(samples).to_parquet(file, index=False)
    written = Split(Batch(*torch.empty(4, 0, 0)))
    described = Dataset(encoder.schema, written, written, written, encoder=encoder, audit=audit)
    write_schema(folder, described)
    shutil.rmtree(scratch.folder)


def _write_rows(
    scratch: _Scratch, part: np.ndarray, counts: list[int], encoder: Encoder, folder: Path
) -> None:
    """Write the arrays of the splits and the keys of the rows."""
    schema = encoder.schema
    starts = np.cumsum([0, *counts])
    kinds = {"row": np.int64, "key": np.uint64, "split": np.int8}
    widths = {"dense": len(schema.dense), "ids": len(schema.fields), "history": 0, "targets": 1}
    with ExitStack() as stack:

        def array(name: str, kind: Any, *shape: int) -> NpyWriter:
            path = folder / f"{name}.npy"
            path.parent.mkdir(exist_ok=True)
            return stack.enter_context(closing(NpyWriter(path, kind, shape)))

        keys = [array(f"row_keys/{n}", kind, scratch.rows) for n, kind in kinds.items()]
        splits = [
            [array(f"{split}/{n}", np.int32 if n in INTEGERS else np.float32, count, width)
             for n, width in widths.items()]
            for split, count in zip(SPLITS, counts, strict=True)
        ]  # fmt: skip
        done = [0, 0, 0]
        for block in scratch.blocks:
            raw = {name: scratch.read(name, np.float64, block) for name in encoder.scalers}
            dense = np.empty((block.stop - block.start, len(raw)), np.float32)
            for at, (name, scaler) in enumerate(encoder.scalers.items()):
                dense[:, at] = scaler.apply(raw[name])
                check_finite(
                    torch.from_numpy(dense[:, at]), pd.Series(raw[name], name=name), scaler
                )
            ids = np.empty((len(dense), len(schema.fields)), np.int32)
            for at, name in enumerate(schema.field_names):
                ids[:, at] = scratch.read(name, np.int32, block)
            truth = scratch.read(LABEL, np.float32, block)[:, None]
            row, key = np.arange(block.start, block.stop) + 1, scratch.read(KEY, np.uint64, block)
            for number, writers in enumerate(splits):
                own = np.flatnonzero(part[block] == number)
                for writer, values in zip(writers, (dense, ids, ids[:, :0], truth), strict=True):
                    writer.write(values[own], done[number])
                for writer, values in zip(keys, (row, key, part[block].view(np.int8)), strict=True):
                    writer.write(values[own], starts[number] + done[number])
                done[number] += len(own)

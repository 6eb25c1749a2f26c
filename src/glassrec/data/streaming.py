"""A store is written from blocks of rows: what is held in memory does not grow with their number.

The rows are parsed once, into a scratch file for each column. In that of a field stand codes: the
places of texts in the dictionary of a block. The dictionaries become one when all rows are known,
and the codes ids. Columns, and then blocks, are worked on by several threads.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
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
from glassrec.data.cells import joined
from glassrec.data.column_findings import Finding, number_findings, text_findings
from glassrec.data.columns import check_values
from glassrec.data.dataset import Dataset
from glassrec.data.encoding import Encoder, Scaler, Scalers, check_finite, logged
from glassrec.data.raw_tables import RawTables, sample_places
from glassrec.data.row_blocks import Blocks, RowBlocks
from glassrec.data.saved_encoder import SPLITS
from glassrec.data.schema import UNSEEN, Field
from glassrec.data.store_files import NpyWriter, write_schema

AUDITED = 1 << 20
"""Rows whose numbers are looked at for outliers, evenly spaced: all of a smaller file."""

PENDING = 1 << 16
"""Texts of blocks that are collected before they are joined with those of earlier blocks."""

KEYS_AT_ONCE = 1 << 21

THREADS = 4
"""At most; each holds a block, or the numbers of a column."""


class _Texts:
    """The distinct texts of a field as they appear, from the dictionaries of blocks.

    `ids` and `hashes` of all of them, int32 and uint64, are known when their field is encoded.
    """

    ids: np.ndarray
    hashes: np.ndarray

    def __init__(self, path: Path) -> None:
        self._path, self._ends = path, [0]
        self._pending: list[pa.Array] = []
        self.known = pa.array([], pa.large_string())

    def add(self, texts: pa.Array) -> None:
        """Add the dictionary of the next block."""
        self._pending.append(texts)
        self._ends.append(self._ends[-1] + len(texts))
        if sum(map(len, self._pending)) > max(PENDING, len(self.known)):
            self.join()

    def join(self) -> None:
        """Find the new texts among those that were added."""
        joined = pa.concat_arrays([self.known, *self._pending]).dictionary_encode()
        with self._path.open("ab") as file:
            joined.indices.to_numpy()[len(self.known) :].tofile(file)
        self.known, self._pending = joined.dictionary, []

    def places(self, block: int) -> np.ndarray:
        """Where the texts of the dictionary of a block are among all."""
        start, end = self._ends[block : block + 2]
        return np.fromfile(self._path, np.int32, end - start, offset=4 * start)

    def hash(self) -> None:
        """Hash all texts as `row_keys` does."""
        parts = (self.known[s : s + PENDING] for s in range(0, len(self.known), PENDING))
        hashed = [pd.util.hash_array(np.array(part.to_pylist(), object)) for part in parts]
        self.hashes = np.concatenate([np.empty(0, np.uint64), *hashed])


class _Scratch:
    """A file for each column of the parsed rows, and the texts of each field."""

    def __init__(self, folder: Path, source: RowBlocks, pool: Executor) -> None:
        folder.mkdir()
        self.folder, self.columns, self.pool = folder, source.columns, pool
        self.blocks = list[slice]()
        label, fields = str(source.columns.label), source.columns.fields
        numbers = [*source.columns.dense, label]
        self._names = [*fields, *numbers]
        self.texts = {name: _Texts(self._path(name, ".texts")) for name in fields}
        with ExitStack() as stack:
            files = {n: stack.enter_context(self._path(n).open("wb")) for n in self._names}

            def write(name: str) -> None:
                if name not in self.texts:
                    frame[name].to_numpy(np.float64).tofile(files[name])
                    return
                cells = joined(table[name])
                cells.indices.to_numpy().astype(np.int32, copy=False).tofile(files[name])
                self.texts[name].add(cells.dictionary.cast(pa.large_string()))

            for table, origin in _ahead(source.read()):
                frame = table.select(numbers).to_pandas(split_blocks=True)
                check_values(frame, source.columns, origin)
                list(pool.map(write, self._names))
                self.blocks.append(slice(self.rows, self.rows + len(frame)))
        list(pool.map(_Texts.join, self.texts.values()))

    def _path(self, name: str, end: str = "") -> Path:
        return self.folder / f"{self._names.index(name)}{end}"

    @property
    def rows(self) -> int:
        return self.blocks[-1].stop if self.blocks else 0

    def numbers(self, name: str, rows: slice) -> np.ndarray:
        """Some rows of a dense column or the label."""
        return np.fromfile(
            self._path(name), np.float64, rows.stop - rows.start, offset=8 * rows.start
        )

    def codes(self, name: str, rows: slice) -> np.ndarray:
        """Some rows of a field, as places in the dictionaries of their blocks."""
        return np.fromfile(
            self._path(name), np.int32, rows.stop - rows.start, offset=4 * rows.start
        )

    def sample(self, name: str, rows: np.ndarray) -> pd.Series:
        """Ascending rows of a column."""
        own = [(n, block, _within(rows, block)) for n, block in enumerate(self.blocks)]
        if name not in self.texts:
            values = [self.numbers(name, block)[at] for _, block, at in own if len(at)]
            return pd.Series(np.concatenate([np.empty(0), *values]), name=name)
        texts = self.texts[name]
        places = [texts.places(n)[self.codes(name, b)[at]] for n, b, at in own if len(at)]
        found = texts.known.take(pa.array(np.concatenate([np.empty(0, np.int32), *places])))
        return pd.Series(found.to_pandas(), dtype="str")

    def encode(self, name: str, part: np.ndarray, min_count: int) -> pa.Array:
        """Give the texts of a field ids; gives the vocabulary, see `Vocabulary`."""
        texts = self.texts[name]
        counts = np.zeros(len(texts.known), np.int64)
        for number, block in enumerate(self.blocks):
            own, places = self.codes(name, block)[part[block] == 0], texts.places(number)
            counts[places] += np.bincount(own, minlength=len(places))
        kept = np.flatnonzero(counts >= max(min_count, 1))
        known = texts.known.take(pa.array(kept))
        order = pc.array_sort_indices(known)
        texts.ids = np.full(len(counts), UNSEEN, np.int32)
        texts.ids[kept[order.to_numpy()]] = np.arange(1, 1 + len(kept))
        texts.hash()
        return known.take(order)

    def fit(self, name: str, part: np.ndarray, log: bool) -> Scaler:
        """The scaler of the training rows of a dense column."""
        with self._path(name, ".known").open("w+b") as file:
            for block in self.blocks:
                own = self.numbers(name, block)[part[block] == 0]
                logged(own[~np.isnan(own)], log).tofile(file)

            def read(start: int, count: int) -> np.ndarray:
                file.seek(8 * start)
                return np.fromfile(file, np.float64, count)

            return Scaler.fit_blocks(read, file.tell() // 8, log)


def _ahead(blocks: Blocks) -> Blocks:
    """The blocks, each read by a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as reader:
        later = reader.submit(next, blocks, None)
        while (block := later.result()) is not None:
            later = reader.submit(next, blocks, None)
            yield block


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
    with ThreadPoolExecutor(min(THREADS, pa.cpu_count())) as pool:
        _encode(source, seed, scalers, folder, pool)


def _encode(source: RowBlocks, seed: int, scalers: Scalers, folder: Path, pool: Executor) -> None:
    scratch, columns = _Scratch(folder / "scratch", source, pool), source.columns
    label = str(columns.label)
    labels = np.concatenate([scratch.numbers(label, b).astype(np.float32) for b in scratch.blocks])
    frame = pd.DataFrame({columns.label: labels})
    divided = source.split.split(frame, columns, source.split.generator(seed))
    part = np.empty(scratch.rows, np.uint8)
    for number, each in enumerate(divided):
        part[each.frame.index] = number
    counts = [len(each.labels) for each in divided]
    ones = [int(each.labels.sum()) for each in divided]
    del labels, frame, divided
    shown = np.flatnonzero(part == 1)
    shown = shown[sample_places(len(shown))]
    spaced = np.arange(0, scratch.rows, -(-scratch.rows // AUDITED))
    (folder / "vocabularies").mkdir()

    def encode(name: str) -> tuple[int, list[Finding], pd.Series]:
        values = pd.Series(scratch.texts[name].known.to_pandas(), dtype="str")
        only = values[0] if len(values) == 1 else None
        findings = [*text_findings(name, values, only, scratch.rows, columns)]
        known = scratch.encode(name, part, source.min_count).cast(pa.string())
        path = folder / "vocabularies" / f"{columns.fields.index(name)}.parquet"
        pa.parquet.write_table(pa.table([known], ["value"]), path)
        return len(known) + 1, findings, scratch.sample(name, shown)

    def fit(name: str) -> tuple[Scaler, list[Finding], pd.Series]:
        scaler = scalers.get(name) or scratch.fit(name, part, name in columns.log)
        findings = [*number_findings(scratch.sample(name, spaced), columns)]
        return scaler, findings, scratch.sample(name, shown)

    encoded = dict(zip(columns.fields, pool.map(encode, columns.fields), strict=True))
    fitted = dict(zip(columns.dense, pool.map(fit, columns.dense), strict=True))
    no_rows = pd.DataFrame({name: pd.Series(dtype="str") for name in columns.fields})
    encoder = Encoder.fit(no_rows, columns, scalers={n: each[0] for n, each in fitted.items()})
    fields = tuple(Field(name, size) for name, (size, *_) in encoded.items())
    encoder = replace(encoder, schema=replace(encoder.schema, fields=fields))
    _write_rows(scratch, part, counts, encoder, folder)
    findings = [finding for each in (*encoded.values(), *fitted.values()) for finding in each[1]]
    equal = _equal_rows(folder / "row_keys/key.npy", scratch.rows, counts[0])
    audit = audit_of_blocks(columns, findings, equal, counts, ones)
    (folder / "raw").mkdir()
    file = folder / "raw" / f"{RawTables._fields[-1]}.parquet"
    samples = {name: each[2] for name, each in (encoded | fitted).items()}
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
    rows = {"row": np.int64, "key": np.uint64, "split": np.int8}
    kinds = {"dense": np.float32, "ids": np.int32, "history": np.int32, "targets": np.float32}
    widths = (len(schema.dense), len(schema.fields), 0, 1)
    for name in ("row_keys", *SPLITS):
        (folder / name).mkdir()
    keys = [NpyWriter(folder / f"row_keys/{n}.npy", k, (scratch.rows,)) for n, k in rows.items()]
    splits = [
        [NpyWriter(folder / split / f"{name}.npy", kind, (count, width))
         for (name, kind), width in zip(kinds.items(), widths, strict=True)]
        for split, count in zip(SPLITS, counts, strict=True)
    ]  # fmt: skip
    inside = [np.bincount(part[block], minlength=3) for block in scratch.blocks]
    before = np.cumsum([np.zeros(3, int), *inside], axis=0)
    starts = np.cumsum([0, *counts])

    def write(number: int) -> None:
        block = scratch.blocks[number]
        dense, ids, truth, key = _encoded(scratch, number, encoder)
        about = np.arange(block.start, block.stop) + 1, key, part[block]
        for split, (writers, done) in enumerate(zip(splits, before[number], strict=True)):
            own: Any = np.flatnonzero(part[block] == split)
            if len(own) and own[-1] - own[0] < len(own):  # neighbours need no copy
                own = slice(own[0], own[-1] + 1)
            for writer, values in zip(writers, (dense, ids, ids[:, :0], truth), strict=True):
                writer.write(values[own], done)
            for writer, values in zip(keys, about, strict=True):
                writer.write(values[own], starts[split] + done)

    list(scratch.pool.map(write, range(len(scratch.blocks))))


def _encoded(
    scratch: _Scratch, number: int, encoder: Encoder
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The scaled numbers, global ids, labels and keys of the rows of a block."""
    block, schema = scratch.blocks[number], encoder.schema
    rows = block.stop - block.start
    dense = np.empty((rows, len(schema.dense)), np.float32)
    ids = np.empty((rows, len(schema.fields)), np.int32)
    truth, key = np.empty((rows, 1), np.float32), np.full(rows, 0x345678, np.uint64)
    names = sorted(scratch.columns.all)
    for at, name in enumerate(names):
        if name in scratch.texts:
            texts, codes = scratch.texts[name], scratch.codes(name, block)
            places, field = texts.places(number), schema.field_index(name)
            ids[:, field] = (texts.ids[places] + schema.offsets[field])[codes]
            hashed = texts.hashes[places][codes]
        else:
            values = scratch.numbers(name, block)
            hashed = pd.util.hash_array(values)
            if name == scratch.columns.label:
                truth[:, 0] = values
            else:
                scaler, at_dense = encoder.scalers[name], schema.dense.index(name)
                dense[:, at_dense] = scaler.apply(values)
                check_finite(dense[:, at_dense], pd.Series(values, name=name), scaler)
        key ^= hashed  # as `pandas.util.hash_pandas_object` does, whose keys `row_keys` holds
        key *= np.uint64(1000003 + sum(82520 + 2 * (len(names) - n) for n in range(at)))
    return dense, ids, truth, key + np.uint64(97531)


def _equal_rows(path: Path, rows: int, train: int) -> tuple[int, int]:
    """How many rows equal an earlier one, and how many held-out rows equal a training row.

    Equal are rows of equal keys, which are compared range by range; training rows come first.
    """
    ranges, equal, shared = -(-rows // KEYS_AT_ONCE), 0, 0
    for number in range(ranges):
        keys, held = [np.empty(0, np.uint64)], [np.empty(0, bool)]
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            for start in range(0, rows, KEYS_AT_ONCE):
                own = np.fromfile(file, np.uint64, min(KEYS_AT_ONCE, rows - start))
                here = np.flatnonzero(own % np.uint64(ranges) == number)
                keys.append(own[here])
                held.append(here + start >= train)
        found, later = np.concatenate(keys), np.concatenate(held)
        ordered = np.sort(found)
        if again := int((ordered[1:] == ordered[:-1]).sum()):
            equal += again
            shared += int(np.isin(found[later], found[~later]).sum())
    return equal, shared

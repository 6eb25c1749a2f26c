"""A store is written from blocks of rows: what is held in memory does not grow with their number.

The rows are parsed once, into scratch files of codes and numbers. A code is the place of a text in
the dictionary of its block; the dictionaries of a field become one when all rows are known.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

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
from glassrec.data.encoding import Encoder, Scaler, Scalers, Vocabulary, check_finite, logged
from glassrec.data.log_checks import check_log
from glassrec.data.raw_tables import sample_places
from glassrec.data.row_blocks import RowBlocks
from glassrec.data.saved_encoder import SPLITS
from glassrec.data.schema import UNSEEN, Field
from glassrec.data.splits import ByTime, Random
from glassrec.data.store_files import NpyWriter, write_schema

AUDITED = 1 << 20
"""Rows whose numbers are looked at for outliers, evenly spaced: all of a smaller file."""

PENDING = 1 << 18
"""Texts of blocks that are collected before they are joined with those of earlier blocks."""

KEYS_AT_ONCE = 1 << 21


class _Block(NamedTuple):
    start: int
    rows: int

    @property
    def stop(self) -> int:
        return self.start + self.rows


class _Scratch:
    """Files of the rows as they were parsed; of each block, its columns one after the other."""

    def __init__(self, folder: Path, rows: RowBlocks) -> None:
        self.folder, self.source, self.columns = folder, rows, rows.columns
        folder.mkdir()
        self.blocks: list[_Block] = []
        with (
            (folder / "codes").open("wb") as codes,
            (folder / "dense").open("wb") as dense,
            (folder / "keys").open("wb") as keys,
            (folder / "labels").open("wb") as labels,
        ):
            kind = pa.schema([("text", pa.large_string())])
            texts = [
                pa.ipc.new_stream(folder / f"texts{n}", kind)
                for n in range(len(self.columns.fields))
            ]
            for frame, origin in rows.read():
                frame = check_log(frame, self.columns, origin)
                for name, writer in zip(self.columns.fields, texts, strict=True):
                    column = frame[name].cat
                    column.codes.to_numpy().astype(np.int32).tofile(codes)
                    known = pa.array(column.categories, pa.large_string())
                    writer.write_batch(pa.record_batch([known], schema=kind))
                for name in self.columns.dense:
                    frame[name].to_numpy(np.float64).tofile(dense)
                pd.util.hash_pandas_object(frame[sorted(self.columns.all)], index=False).to_numpy(
                    np.uint64
                ).tofile(keys)
                frame[self.columns.label].to_numpy(np.float32).tofile(labels)
                self.blocks.append(_Block(self.rows, len(frame)))
            for writer in texts:
                writer.close()

    @property
    def rows(self) -> int:
        return self.blocks[-1].stop if self.blocks else 0

    def texts(self, field: int) -> Iterator[pa.Array]:
        """The dictionary of each block."""
        with pa.ipc.open_stream(self.folder / f"texts{field}") as reader:
            for batch in reader:
                yield batch.column(0)

    def column(self, file: IO[bytes], block: _Block, at: int, of: int, kind: Any) -> np.ndarray:
        """A column of a block, of the file's `of` columns."""
        file.seek((block.start * of + block.rows * at) * np.dtype(kind).itemsize)
        return np.fromfile(file, kind, block.rows)


def encode_rows(rows: RowBlocks, seed: int, scalers: Scalers, folder: Path) -> None:
    """Write the store of rows that are encoded one by one.

    The files are those of `write_dataset` of the rows in memory, bit for bit. Outliers are looked
    for in `AUDITED` rows.

    Raises:
        ValueError: as `Source.load`.
    """
    scratch = _Scratch(folder / "scratch", rows)
    assert isinstance(rows.split, Random | ByTime), "no other split is streamed"
    part = rows.split.part_of_rows(scratch.rows, torch.Generator().manual_seed(seed))
    counts = [int(count) for count in np.bincount(part, minlength=3)]
    for name, count in zip(("train", "validation", "test"), counts, strict=True):
        if not count:
            raise ValueError(f"the {name} part of {scratch.rows} rows is empty; change the split")
    columns, shown = rows.columns, np.flatnonzero(part == 1)
    shown = shown[sample_places(len(shown))]
    samples: dict[str, Any] = {}
    findings: list[Finding] = []
    fields: list[Field] = []
    (folder / "vocabularies").mkdir()
    for at, name in enumerate(columns.fields):
        offset = sum(field.size for field in fields)
        codes, texts = _joined(scratch, at)
        samples[name] = pd.Series(_texts_at(scratch, at, codes, texts, shown))
        values = pd.Series(texts.to_pandas(), dtype="str")
        only = values[0] if len(values) == 1 else None
        findings += text_findings(name, values, only, scratch.rows, columns)
        known = _encode_field(scratch, at, codes, texts, part, rows.min_count, offset)
        table = pa.table({"value": known.cast(pa.string())})
        pa.parquet.write_table(table, folder / "vocabularies" / f"{at}.parquet")
        fields.append(Field(name, len(known) + 1))
    fitted: dict[str, Scaler] = {}
    for at, name in enumerate(columns.dense):
        fitted[name] = scalers.get(name) or _fit(scratch, at, part, name in columns.log)
        spaced = np.arange(0, scratch.rows, -(-scratch.rows // AUDITED))
        findings += number_findings(pd.Series(_dense_at(scratch, at, spaced), name=name), columns)
        samples[name] = _dense_at(scratch, at, shown)
    encoder = Encoder.of(columns, {}, fields, fitted, columns.targets, 0)
    ones = _write_rows(scratch, part, counts, encoder, folder)
    audit = audit_of_blocks(columns, findings, _equal_rows(scratch, part), counts, ones)
    (folder / "raw").mkdir()
    pd.DataFrame(samples).to_parquet(folder / "raw" / "samples.parquet", index=False)
    no_text = Vocabulary(pd.Index([], dtype="str"))
    described = replace(encoder, vocabularies=dict.fromkeys(columns.fields, no_text))
    nothing = Split(Batch(*torch.empty(4, 0, 0)))
    parts = nothing, nothing, nothing
    write_schema(folder, Dataset(encoder.schema, *parts, encoder=described, audit=audit))
    shutil.rmtree(scratch.folder)


def _joined(scratch: _Scratch, field: int) -> tuple[list[np.ndarray], pa.Array]:
    """For each block the numbers of its texts among all of the field, and these, as they appear."""
    known, codes = pa.array([], pa.large_string()), list[np.ndarray]()
    pending: list[pa.Array] = []
    for block, texts in enumerate(scratch.texts(field)):
        pending.append(texts)
        last = block == len(scratch.blocks) - 1
        if last or sum(map(len, pending)) > max(PENDING, len(known)):
            joined = pa.concat_arrays([known, *pending]).dictionary_encode()
            places = joined.indices.to_numpy()[len(known) :]
            codes += np.split(places, np.cumsum([len(each) for each in pending])[:-1])
            known, pending = joined.dictionary, []
    return codes, known


def _encode_field(
    scratch: _Scratch,
    at: int,
    codes: list[np.ndarray],
    texts: pa.Array,
    part: np.ndarray,
    min_count: int,
    offset: int,
) -> pa.Array:
    """Replace the codes of a field by global ids; gives the values of its vocabulary, in order."""
    of = len(scratch.columns.fields)
    counts = np.zeros(len(texts), np.int64)
    with (scratch.folder / "codes").open("r+b") as file:
        for block, places in zip(scratch.blocks, codes, strict=True):
            own = scratch.column(file, block, at, of, np.int32)[part[block.start : block.stop] == 0]
            counts[places] += np.bincount(own, minlength=len(places))
        kept = np.flatnonzero(counts >= max(min_count, 1))
        known = texts.take(pa.array(kept))
        order = pc.array_sort_indices(known).to_numpy()
        ids = np.full(len(texts), offset + UNSEEN, np.int32)
        ids[kept[order]] = np.arange(offset + 1, offset + 1 + len(kept))
        for block, places in zip(scratch.blocks, codes, strict=True):
            own = ids[places][scratch.column(file, block, at, of, np.int32)]
            file.seek((block.start * of + block.rows * at) * 4)
            own.tofile(file)
    return known.take(pa.array(order))


def _texts_at(
    scratch: _Scratch, at: int, codes: list[np.ndarray], texts: pa.Array, rows: np.ndarray
) -> pa.Array:
    """The texts of a field in these rows, before the codes are replaced."""
    found = np.empty(len(rows), np.int64)
    of = len(scratch.columns.fields)
    with (scratch.folder / "codes").open("rb") as file:
        for block, places in zip(scratch.blocks, codes, strict=True):
            here = (rows >= block.start) & (rows < block.stop)
            if here.any():
                own = scratch.column(file, block, at, of, np.int32)
                found[here] = places[own[rows[here] - block.start]]
    return texts.take(pa.array(found)).to_pandas().astype("str")


def _dense_columns(scratch: _Scratch, at: int) -> Iterator[tuple[_Block, np.ndarray]]:
    with (scratch.folder / "dense").open("rb") as file:
        for block in scratch.blocks:
            of = len(scratch.columns.dense)
            yield block, scratch.column(file, block, at, of, np.float64)


def _dense_at(scratch: _Scratch, at: int, rows: np.ndarray) -> np.ndarray:
    """The raw values of a dense column in these rows, ascending."""
    found = [np.empty(0)]
    for block, values in _dense_columns(scratch, at):
        start, stop = np.searchsorted(rows, (block.start, block.stop))
        found.append(values[rows[start:stop] - block.start])
    return np.concatenate(found)


def _fit(scratch: _Scratch, at: int, part: np.ndarray, log: bool) -> Scaler:
    """The scaler of the training rows, which are written without the missing ones."""
    path = scratch.folder / "column"
    with path.open("w+b") as file:
        for block, values in _dense_columns(scratch, at):
            own = values[part[block.start : block.stop] == 0]
            logged(own[~np.isnan(own)], log).tofile(file)

        def read(start: int, count: int) -> np.ndarray:
            file.seek(8 * start)
            return np.fromfile(file, np.float64, count)

        return Scaler.fit_blocks(read, file.tell() // 8, log)


def _write_rows(
    scratch: _Scratch, part: np.ndarray, counts: list[int], encoder: Encoder, folder: Path
) -> list[int]:
    """Write the arrays of the splits and the keys of the rows; the sum of each split's labels."""
    schema, total = encoder.schema, scratch.rows
    fields, dense = len(schema.fields), len(schema.dense)
    for name in (*SPLITS, "row_keys"):
        (folder / name).mkdir()
    writers = {
        name: [
            NpyWriter(folder / name / "dense.npy", np.float32, (count, dense)),
            NpyWriter(folder / name / "ids.npy", np.int32, (count, fields)),
            NpyWriter(folder / name / "history.npy", np.int32, (count, 0)),
            NpyWriter(folder / name / "targets.npy", np.float32, (count, 1)),
        ]
        for name, count in zip(SPLITS, counts, strict=True)
    }
    keys = {
        name: NpyWriter(folder / "row_keys" / f"{name}.npy", kind, (total,))
        for name, kind in (("row", np.int64), ("key", np.uint64), ("split", np.int8))
    }
    starts, done, ones = [0, counts[0], counts[0] + counts[1]], [0, 0, 0], [0, 0, 0]
    with (
        (scratch.folder / "codes").open("rb") as codes,
        (scratch.folder / "dense").open("rb") as numbers,
        (scratch.folder / "labels").open("rb") as labels,
        (scratch.folder / "keys").open("rb") as hashes,
    ):
        for block in scratch.blocks:
            whole = np.fromfile(codes, np.int32, fields * block.rows).reshape(fields, -1).T
            raw = np.fromfile(numbers, np.float64, dense * block.rows).reshape(dense, -1)
            scaled = np.empty((block.rows, dense), np.float32)
            for at, (name, scaler) in enumerate(encoder.scalers.items()):
                scaled[:, at] = scaler.apply(raw[at])
                check_finite(torch.from_numpy(scaled[:, at]), pd.Series(raw[at], name=name), scaler)
            truth = np.fromfile(labels, np.float32, block.rows)[:, None]
            key = np.fromfile(hashes, np.uint64, block.rows)
            empty = np.empty((block.rows, 0), np.int32)
            for number, name in enumerate(SPLITS):
                own = np.flatnonzero(part[block.start : block.stop] == number)
                for writer, values in zip(
                    writers[name], (scaled, whole, empty, truth), strict=True
                ):
                    writer.write(values[own], done[number])
                first = starts[number] + done[number]
                keys["row"].write(block.start + own + 1, first)
                keys["key"].write(key[own], first)
                keys["split"].write(np.full(len(own), number, np.int8), first)
                ones[number] += int(truth[own].sum())
                done[number] += len(own)
    for writer in (*keys.values(), *(each for own in writers.values() for each in own)):
        writer.close()
    return ones


def _equal_rows(scratch: _Scratch, part: np.ndarray) -> tuple[int, int]:
    """How many rows equal an earlier one, and how many held-out rows equal a training row.

    Rows are equal if their keys are; the keys are looked at range by range.
    """
    ranges = -(-scratch.rows // KEYS_AT_ONCE)
    equal = shared = 0
    for number in range(ranges):
        own: list[np.ndarray] = []
        held: list[np.ndarray] = []
        with (scratch.folder / "keys").open("rb") as file:
            for block in scratch.blocks:
                keys = np.fromfile(file, np.uint64, block.rows)
                here = keys % np.uint64(ranges) == number
                own.append(keys[here])
                held.append(part[block.start : block.stop][here] > 0)
        keys, out = np.concatenate(own), np.concatenate(held)
        ordered = np.sort(keys)
        if again := int((ordered[1:] == ordered[:-1]).sum()):
            equal += again
            shared += int(np.isin(keys[out], keys[~out]).sum())
    return equal, shared

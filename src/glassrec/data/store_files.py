"""The files of a store: how they are written, and whether they are as they were written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.data.content import LARGE_BYTES, digest_of
from glassrec.data.dataset import Dataset
from glassrec.data.encoding import MultiValued, Vocabulary
from glassrec.data.saved_encoder import SPLITS, plain_encoder, plain_schema
from glassrec.data.schema import Schema

FORMAT = 1
"""The version of the layout."""

SCHEMA, CHECKSUMS = "schema.json", "checksums.json"

CATALOGUE = ("rows", "counts", "chosen", "dense")
"""The tensors of a catalogue."""


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder`, with checksums, when the block is complete."""
    partial_folder = folder.with_suffix(".partial")
    for old in (partial_folder, folder):  # of a killed process, and a damaged one
        shutil.rmtree(old, ignore_errors=True)
    partial_folder.mkdir()
    try:
        yield partial_folder
        files = sorted(p for p in partial_folder.rglob("*") if p.is_file())
        sums = {
            path.relative_to(partial_folder).as_posix(): [path.stat().st_size, digest_of(path)]
            for path in files
        }
        (partial_folder / CHECKSUMS).write_text(json.dumps(sums, indent=1))
        partial_folder.rename(folder)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)


def is_intact(folder: Path, *, check: bool = False) -> bool:
    """Whether a store is there and its files have their sizes and, with `check` or where they are
    few, the sha256 that they had when they were written.
    """
    try:
        sums = json.loads((folder / CHECKSUMS).read_text())
        if any((folder / name).stat().st_size != size for name, (size, _) in sums.items()):
            return False
        check = check or sum(size for size, _ in sums.values()) < LARGE_BYTES
        return not check or all(digest_of(folder / name) == sha for name, (_, sha) in sums.items())
    except (OSError, ValueError, TypeError):
        return False


def write_dataset(dataset: Dataset, folder: Path) -> None:
    """Write all of a dataset but its `decoder` and `ground_truth`."""
    kind = id_type(dataset.schema)
    for name, split in dataset.splits.items():
        write_arrays(
            folder / name,
            {
                column: array.to(kind) if array.dtype == torch.int64 else array
                for column, array in split.batch._asdict().items()
            },
        )
        more = {"query": split.query, "probabilities": (dataset.probabilities or {}).get(name)}
        write_arrays(folder / name, more)
    if dataset.catalogue is not None:
        tensors = {name: getattr(dataset.catalogue, name) for name in CATALOGUE}
        write_arrays(folder / "catalogue", tensors)
    if dataset.encoder is not None:
        write_vocabularies(dataset.encoder.vocabularies, folder / "vocabularies")
    if dataset.row_keys is not None:
        keys = dataset.row_keys
        codes = pd.Categorical(keys["split"], SPLITS).codes
        rows = {"row": keys["row"].to_numpy(), "key": keys["key"].to_numpy(), "split": codes}
        write_arrays(folder / "row_keys", rows)
    if dataset.raw is not None:
        (folder / "raw").mkdir()
        for name, table in dataset.raw._asdict().items():
            if table is not None:
                table.to_parquet(folder / "raw" / f"{name}.parquet", index=False)
    write_schema(folder, dataset)


def write_schema(folder: Path, dataset: Dataset) -> None:
    """Write everything that is no array and no table."""
    catalogue, negatives, encoder = dataset.catalogue, dataset.negatives, dataset.encoder
    columns = catalogue and {"columns": catalogue.columns, "dense_columns": catalogue.dense_columns}
    description = {
        "format": FORMAT,
        "schema": plain_schema(dataset.schema),
        "user_column": None if catalogue is None else catalogue.user,
        "catalogue": columns,
        "negatives": negatives and negatives.per_positive,
        "encoder": encoder and plain_encoder(encoder),
        "audit": dataset.audit and asdict(dataset.audit),
    }
    (folder / SCHEMA).write_text(json.dumps(description, indent=1))


def id_type(schema: Schema) -> torch.dtype:
    """The type of ids and histories on disk."""
    return torch.int32 if schema.num_ids < 2**31 else torch.int64


def write_arrays(folder: Path, arrays: Mapping[str, Tensor | np.ndarray | None]) -> None:
    """Write a file `NAME.npy` for each array."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        if array is not None:
            np.save(folder / f"{name}.npy", np.asarray(array))


def write_vocabularies(vocabularies: Mapping[str, Vocabulary | MultiValued], folder: Path) -> None:
    """Write the values of each field, by the order of the fields: `0.parquet`, `1.parquet`, ..."""
    folder.mkdir()
    for at, known in enumerate(vocabularies.values()):
        frame = pd.DataFrame({"value": known.values})
        frame.to_parquet(folder / f"{at}.parquet", index=False)


class NpyWriter:
    """An array on disk of a known shape, which is written piece by piece."""

    def __init__(self, path: Path, kind: Any, shape: tuple[int, ...]) -> None:
        self._file, self._type, self._shape = path.open("wb"), np.dtype(kind), shape
        header = {"descr": self._type.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()

    def write(self, values: np.ndarray, row: int) -> None:
        """Write rows from `row` on."""
        width = int(np.prod(self._shape[1:])) * self._type.itemsize
        self._file.seek(self._start + row * width)
        self._file.write(np.ascontiguousarray(values, self._type).data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

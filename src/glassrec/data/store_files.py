"""The files of a store: how they are written, and whether they are as they were written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from torch import Tensor

from glassrec.data.content import LARGE_BYTES, digest_of
from glassrec.data.dataset import Dataset
from glassrec.data.saved_encoder import plain_encoder, plain_schema

FORMAT = 1
"""The version of the layout."""

SCHEMA, CHECKSUMS = "schema.json", "checksums.json"

CATALOGUE = ("rows", "counts", "chosen", "dense")
"""The tensors of a catalogue."""

INTEGERS = ("ids", "history")
"""The arrays of a split that hold ids."""


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
        with ThreadPoolExecutor(pa.cpu_count()) as pool:
            digests = pool.map(digest_of, files)
        sums = {
            path.relative_to(partial_folder).as_posix(): [path.stat().st_size, digest]
            for path, digest in zip(files, digests, strict=True)
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
    arrays: dict[str, Tensor | np.ndarray | None] = {}
    raw = {} if dataset.raw is None else dataset.raw._asdict()
    tables: dict[str, pd.DataFrame | None] = {f"raw/{name}": each for name, each in raw.items()}
    for name, split in dataset.splits.items():
        arrays |= {f"{name}/{n}": array for n, array in split.batch._asdict().items()}
        if dataset.schema.num_ids < 2**31:
            arrays |= {f"{name}/{n}": getattr(split.batch, n).int() for n in INTEGERS}
        arrays[f"{name}/query"] = split.query
        arrays[f"{name}/probabilities"] = (dataset.probabilities or {}).get(name)
    if dataset.catalogue is not None:
        arrays |= {f"catalogue/{name}": getattr(dataset.catalogue, name) for name in CATALOGUE}
    if dataset.encoder is not None:
        known = dataset.encoder.vocabularies.values()
        values = [pd.DataFrame({"value": each.values}) for each in known]
        tables |= {f"vocabularies/{at}": each for at, each in enumerate(values)}
    if dataset.row_keys is not None:
        arrays |= {f"row_keys/{name}": dataset.row_keys[name].to_numpy() for name in ("row", "key")}
        arrays["row_keys/split"] = dataset.row_keys["split"].cat.codes.to_numpy()
    for path in {(folder / name).parent for name in (*arrays, *tables)}:
        path.mkdir(exist_ok=True)
    for name, array in arrays.items():
        if array is not None:
            np.save(folder / f"{name}.npy", np.asarray(array))
    for name, table in tables.items():
        if table is not None:
            table.to_parquet(folder / f"{name}.parquet", index=False)
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


class NpyWriter:
    """An array on disk of a known shape, which is written piece by piece."""

    def __init__(self, path: Path, kind: Any, shape: tuple[int, ...]) -> None:
        self._path, self._type, self._shape = path, np.dtype(kind), shape
        header = {"descr": self._type.str, "fortran_order": False, "shape": shape}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            self._start = file.tell()

    def write(self, values: np.ndarray, row: int) -> None:
        """Write rows from `row` on; threads may write different ones at once."""
        with self._path.open("r+b") as file:
            file.seek(self._start + row * int(np.prod(self._shape[1:])) * self._type.itemsize)
            file.write(np.ascontiguousarray(values, self._type).data)

"""Encoded data on disk: a source is encoded once, and its rows are read from mapped arrays.

`docs/guide/store.md` describes the files, for programs that write them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import pandas as pd
import torch
from pydantic import DirectoryPath, TypeAdapter

from glassrec.data.audit import Audit
from glassrec.data.batch import Batch, Split
from glassrec.data.catalogue import Catalogue, Negatives
from glassrec.data.content import LARGE_BYTES, default_cache, existing, fingerprint
from glassrec.data.dataset import Dataset, Source
from glassrec.data.encoding import NO_SCALERS, MultiValued, Scalers, Vocabulary
from glassrec.data.raw_tables import RawTables
from glassrec.data.row_blocks import RowBlocks
from glassrec.data.saved_encoder import SPLITS, encoder_of, schema_of
from glassrec.data.schema import ABSENT, Schema
from glassrec.data.store_files import (
    CATALOGUE,
    FORMAT,
    INTEGERS,
    SCHEMA,
    is_intact,
    write_dataset,
    writing,
)
from glassrec.data.streaming import encode_rows
from glassrec.failures import OutOfMemoryError, free_memory, write_error

MEMORY_PER_BYTE = {("Criteo", True): 3.4, ("Table", True): 7.0, ("Table", False): 12.0}
"""Bytes of memory that loading takes for each byte of text (measured), by the class and whether it
could be read in blocks; of other sources at least 3."""

T = TypeVar("T")


class LazyMapping(Mapping[str, T]):
    """Values by name, or by attribute, that are read when they are used first."""

    def __init__(self, names: tuple[str, ...], read: Callable[[str], T]) -> None:
        self._names, self._read = names, cache(read)

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __getattr__(self, name: str) -> T:
        if name.startswith("_") or name not in self._names:
            raise AttributeError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def load_dataset(
    source: Source,
    seed: int,
    scalers: Scalers = NO_SCALERS,
    *,
    cache: Path | Literal["auto"] | None = None,
    shared: Path | None = None,
    check: bool = False,
) -> Dataset:
    """The dataset of a source, from the store in the folder `cache`, which is made first if needed.

    With "auto" that folder is `glassrec` in the user's cache directory for files of 64 MiB or more;
    smaller ones are stored in the folder `shared`, if there is one. Generated data, and sources and
    splits that do not come with Glassrec, are loaded as without a store: nobody knows whether their
    code has changed. With `check`, the bytes of a large store are compared with its checksums;
    those of a small one always are.

    Raises:
        ValueError: as `Source.load`.
    """
    load = partial(source.load, seed, *([scalers] if scalers else []))
    folder = _folder(source, seed, scalers, cache, shared)
    if folder is None:
        _check_memory(source, stored=False)
        return load()
    if not is_intact(folder, check=check):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_suffix(".writing")):
            if not is_intact(folder, check=check):  # no other process has made it meanwhile
                print(f"encoding the data into {folder} ...", flush=True)
                try:
                    with writing(folder) as partial_folder:
                        if (rows := _streamed(source)) is not None:
                            encode_rows(rows, seed, scalers, partial_folder)
                        else:
                            _check_memory(source, stored=True)
                            write_dataset(load(), partial_folder)
                except OSError as error:
                    raise write_error(folder, error) or error from None
    return read_store(folder)


@dataclass(frozen=True)
class Store(Source):
    """Rows that another program has encoded, in the files that the guide describes.

    Attributes:
        path: the folder.
    """

    path: DirectoryPath

    @property
    def paths(self) -> list[Path]:
        """The schema and all arrays."""
        return [Path(self.path) / SCHEMA, *sorted(Path(self.path).glob("*/*.npy"))]

    def fingerprint(self) -> dict[str, str]:
        """The sha256 of each file by its path in the folder."""
        return {
            path.relative_to(self.path).as_posix(): fingerprint([path])[path.name]
            for path in self.paths
        }

    def load(self, seed: int, scalers: Scalers = NO_SCALERS) -> Dataset:
        """The rows, mapped; ValueError where a file is not as the schema says."""
        folder = Path(self.path)
        for name in (SCHEMA, *(f"{split}/{n}.npy" for split in SPLITS for n in Batch._fields)):
            existing(folder / name)
        try:
            dataset = read_store(folder)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder}: not a store: {error!r}; see the guide") from None
        for name, split in dataset.splits.items():
            _check_split(folder / name, split.batch, dataset.schema)
        return dataset


def _check_split(folder: Path, batch: Batch, schema: Schema) -> None:
    """ValueError at the first array of another shape or type, or id of another field."""
    sizes = [field.size for field in schema.fields for _ in range(field.values)]
    first = [o for o, f in zip(schema.offsets, schema.fields, strict=True) for _ in range(f.values)]
    widths = len(schema.dense), len(first), schema.history_length, len(schema.targets)
    for name, array, width in zip(Batch._fields, batch, widths, strict=True):
        kinds = (torch.int32, torch.int64) if name in INTEGERS else (torch.float32,)
        if array.shape != (batch.rows, width) or array.dtype not in kinds:
            raise ValueError(
                f"{folder / name}.npy is {array.dtype} {tuple(array.shape)}; it should be "
                f"{kinds[0]} ({batch.rows}, {width})"
            )
    for at, (start, size) in enumerate(zip(first, sizes, strict=True)):
        low, high = batch.ids[:, at].aminmax() if batch.rows else (start, start)
        if high >= start + size or (low < start and low != ABSENT):
            raise ValueError(
                f"{folder / 'ids'}.npy: column {at} holds ids from {int(low)} to {int(high)}; "
                f"those of its field are {start} to {start + size - 1}"
            )


def _streamed(source: Source) -> RowBlocks | None:
    rows = source.row_blocks()
    return rows if rows is not None and rows.streams() else None


def _check_memory(source: Source, *, stored: bool) -> None:
    """OutOfMemoryError if text files are so large that their rows surely do not fit in memory."""
    size, free = sum(path.stat().st_size for path in source.paths), free_memory() / 2**30
    if size < LARGE_BYTES or isinstance(source, Store):
        return
    streams = _streamed(source) is not None
    needed = MEMORY_PER_BYTE.get((type(source).__name__, streams), 3.0) * size / 2**30
    if needed > free:
        block = streams and not stored
        way = "set cache=DIR, to encode the rows in blocks" if block else "take fewer rows"
        raise OutOfMemoryError(
            f"loading {size / 2**30:.1f} GiB takes about {needed:.0f} GiB of memory, and "
            f"{free:.0f} GiB are free; {way}, or a machine with more memory"
        )


def _folder(
    source: Source, seed: int, scalers: Scalers, cache: Path | Literal["auto"] | None,
    shared: Path | None,
) -> Path | None:  # fmt: skip
    """The folder of a store, named by all that the encoded rows depend on; None for no store."""
    split = getattr(source, "split", None)
    parts = [source] if split is None else [source, split]
    own = all(type(part).__module__.startswith("glassrec.data.") for part in parts)
    own = own and not isinstance(source, Store)
    size = sum(existing(path).stat().st_size for path in source.paths) if own else 0
    place = cache
    if cache == "auto":
        place = default_cache() if size >= LARGE_BYTES else shared
    if place is None or not size:
        return None
    drawn = seed if split is None else split.drawn_by(seed)
    made_from = FORMAT, _code(), source, source.fingerprint(), drawn, sorted(scalers.items())
    key = hashlib.sha256(repr(made_from).encode()).hexdigest()
    return Path(place) / key[:32]


@cache
def _code() -> str:
    """The sha256 of the code that encodes: a store of another version is not read."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock; the system frees that of a killed one."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_store(folder: Path) -> Dataset:
    """The dataset of a store: arrays are mapped, tables and vocabularies are read on first use."""
    known = json.loads((folder / SCHEMA).read_text())
    schema = schema_of(known["schema"])
    train, validation, test = (_split(folder / name) for name in SPLITS)
    probabilities = {name: _mapped(folder / name / "probabilities.npy") for name in SPLITS}
    catalogue = negatives = encoder = keys = None
    if known.get("catalogue") is not None:
        parts: dict[str, Any] = {
            name: _mapped(folder / "catalogue" / f"{name}.npy") for name in CATALOGUE
        }
        own: dict[str, Any] = {name: tuple(places) for name, places in known["catalogue"].items()}
        catalogue = Catalogue(known["user_column"], **own, **parts)
        if known.get("negatives") is not None:
            negatives = Negatives(catalogue, known["negatives"])
    if known.get("encoder") is not None:
        names = tuple(known["encoder"]["types"])
        read = partial(_vocabulary, folder / "vocabularies", known["encoder"], names)
        encoder = encoder_of(known["encoder"], LazyMapping(names, read))
    raw = None
    if (folder / "raw").is_dir():  # its fields are those of the named tuple
        tables = LazyMapping(RawTables._fields, partial(_read_table, folder / "raw"))
        raw = cast(RawTables, tables)
    if (folder / "row_keys").is_dir():
        rows = {n: _array(folder / "row_keys" / f"{n}.npy") for n in ("row", "key", "split")}
        rows["split"] = pd.Categorical.from_codes(rows["split"], pd.Index(SPLITS))
        keys = pd.DataFrame(rows, copy=False)
    return Dataset(
        schema,
        train,
        validation,
        test,
        catalogue=catalogue,
        negatives=negatives,
        audit=known.get("audit") and TypeAdapter(Audit).validate_python(known["audit"]),
        encoder=encoder,
        row_keys=keys,
        raw=raw,
        probabilities=None if None in probabilities.values() else probabilities,
    )


def _split(folder: Path) -> Split:
    batch = Batch(*(_mapped(folder / f"{name}.npy") for name in Batch._fields))
    return Split(batch, _mapped(folder / "query.npy"))


def _array(path: Path) -> Any:
    """An array, mapped; what is written to it stays in this process."""
    return np.asarray(np.load(path, mmap_mode="c"))


def _mapped(path: Path) -> Any:
    return torch.from_numpy(_array(path)) if path.exists() else None


def _read_table(folder: Path, name: str) -> pd.DataFrame | None:
    path = folder / f"{name}.parquet"
    return pd.read_parquet(path) if path.exists() else None


def _vocabulary(
    folder: Path, encoder: Mapping[str, Any], names: tuple[str, ...], name: str
) -> Vocabulary | MultiValued:
    values = pd.read_parquet(folder / f"{names.index(name)}.parquet")["value"]
    known, width = Vocabulary(pd.Index(values, name=None)), encoder["widths"].get(name)
    if width is None:
        return known
    separators = encoder["roles"]["several"]
    return MultiValued(known, width, separators[name] if isinstance(separators, dict) else "|")

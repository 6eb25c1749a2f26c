"""Verify: the files that make tensors of raw values and names of ids, made again from the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pandas as pd

from glassrec.artifacts import Facts, File, StoredTable
from glassrec.artifacts import file_list as files
from glassrec.data.dataset import Dataset
from glassrec.data.raw_tables import RawTables
from glassrec.data.saved_encoder import describe_encoder, vocabulary_table
from glassrec.run import ReadOnlyRun
from glassrec.stages.check_findings import Finding, Passed

TABLES = (files.CATALOGUE, files.INTERACTIONS, files.LAST_ROWS, files.SAMPLE_ROWS)
"""The tables of raw values, in the order of `Dataset.raw`."""


def check_encoder(there: Facts, dataset: Dataset) -> Iterator[Finding]:
    """Scalers, roles and separators."""
    found = {} if dataset.encoder is None else describe_encoder(dataset.encoder)
    if "roles" in there.values and found:  # an earlier version knew fewer roles
        known = there.values["roles"]
        found["roles"] = {role: value for role, value in found["roles"].items() if role in known}
    for name in sorted({*there.values, *found}):
        if there.values.get(name) != found.get(name):
            yield f"{files.ENCODER.name}: {name} is not what the data gives"
    yield Passed(f"{files.ENCODER.name} follows from the training rows")


def check_table(file: File[StoredTable], there: StoredTable, dataset: Dataset) -> Iterator[Finding]:
    """One of the tables of raw values."""
    found = _made(file, dataset)
    if found is None:
        yield f"{file.name} is there, and the data gives none"
        return
    differ = [name for name in found if name not in there.frame]
    differ = differ or [name for name in found if not _equal(there.frame[name], found[name])]
    yield from (f"{file.name}: {name} is not what the data gives" for name in differ)
    yield Passed(f"{file.name} follows from the data")


def _made(file: File[StoredTable], dataset: Dataset) -> pd.DataFrame | None:
    if file is files.VOCABULARY:
        return None if dataset.encoder is None else vocabulary_table(dataset.encoder)
    return (
        None if dataset.raw is None else getattr(dataset.raw, RawTables._fields[TABLES.index(file)])
    )


def _equal(there: pd.Series, found: pd.Series) -> bool:
    """Whether two columns have the same values; how they are stored does not matter."""
    if len(there) != len(found):
        return False
    one, other = (pd.Series(column.to_numpy(object)) for column in (there, found))
    return bool(((one == other) | (one.isna() & other.isna())).all())


def check_onnx(run: ReadOnlyRun) -> Iterator[Finding]:
    """The golden rows in an ONNX runtime, if one is installed."""
    name = files.BUNDLE_ONNX.name
    if find_spec("onnxruntime") is None:
        yield Passed(f"{name} by its hash alone, as onnxruntime is not installed")
        return
    script = import_module("glassrec.stages.score_onnx")  # here, as it imports onnxruntime
    yield from (f"{name}: {line}" for line in script.check(run.dir / files.BUNDLE))
    yield Passed(f"{name} gives the golden rows their logits in onnxruntime")
    if run.has(files.BUNDLE_INT8):
        raw = import_module("glassrec.stages.raw_onnx").raw_onnx
        content = raw(run.load(files.INT8).content, run.load(files.BUNDLE_ENCODER).values)
        if content != run.load(files.BUNDLE_INT8).content:
            yield f"{files.BUNDLE_INT8.name} is not {files.INT8.name} behind the encoder"


RAW_CHECKS: dict[File[Any], Callable[[Any, Dataset], Iterator[Finding]]] = {
    files.ENCODER: check_encoder,
    **{file: partial(check_table, file) for file in (files.VOCABULARY, *TABLES)},
}
"""The checks, by the file whose content they make again."""

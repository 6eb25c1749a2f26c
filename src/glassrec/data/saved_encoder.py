"""The part of a dataset that a run keeps: its encoder in plain values, and keys of its raw rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import inf, isinf
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from glassrec.data.columns import Columns, Part, Parts, happened
from glassrec.data.encoding import Encoder, MultiValued, Scaler, Vocabulary
from glassrec.data.schema import Schema

TYPES = {"text": "str", "integer": "int64", "number": "float64"}
"""The types of the values of a vocabulary, and their names in pandas."""

SPLITS = ("train", "val", "test")


def vocabulary_table(encoder: Encoder) -> pd.DataFrame:
    """The values of all fields as text, by id: the columns field, value and id (from 1)."""
    known = {name: each.values for name, each in encoder.vocabularies.items()}
    fields = np.repeat(np.arange(len(known)), [len(values) for values in known.values()])
    ids = [np.arange(1, len(values) + 1) for values in known.values()]
    texts = [values.astype(str).to_numpy(object) for values in known.values()]
    return pd.DataFrame({
        "field": pd.Categorical.from_codes(fields, pd.Index([*known], dtype=str)),
        "value": np.concatenate([np.empty(0, object), *texts]),
        "id": np.concatenate([np.empty(0, np.int64), *ids]),
    })  # fmt: skip


def describe_encoder(encoder: Encoder) -> dict[str, Any]:
    """Everything but the values, as JSON holds it.

    types: of the values of each field, one of `TYPES`. widths: of multi-valued fields.
    scalers: log, mean and deviation by dense column. schema and roles: the fields of `Schema` and
    `Columns`; an end of a range that is null is infinite. vocabulary_sha256: of all values in the
    order of their ids, with their types. encoder_sha256: of the values and everything else here.
    """
    described = plain_encoder(encoder) | {"vocabulary_sha256": _digest(encoder.vocabularies)}
    plain: dict[str, Any] = json.loads(json.dumps(described))
    hashed = {k: v for k, v in plain["roles"].items() if k != "item_name"}  # it makes no tensor
    text = json.dumps(plain | {"roles": hashed}, sort_keys=True)
    return plain | {"encoder_sha256": hashlib.sha256(text.encode()).hexdigest()}


def plain_encoder(encoder: Encoder) -> dict[str, Any]:
    """The part of `describe_encoder` that needs no pass over all values."""
    vocabularies, roles = encoder.vocabularies, asdict(encoder.columns)
    roles["ranges"] = {name: _finite(ends) for name, ends in encoder.columns.ranges.items()}
    return {
        "types": {name: value_type(known.values) for name, known in vocabularies.items()},
        "widths": {
            name: known.width
            for name, known in vocabularies.items()
            if isinstance(known, MultiValued)
        },
        "scalers": {name: asdict(scaler) for name, scaler in encoder.scalers.items()},
        "schema": plain_schema(encoder.schema),
        "roles": roles,
    }


def plain_schema(schema: Schema) -> dict[str, Any]:
    """A schema as JSON holds it; an end of a range that is null is infinite."""
    return asdict(schema) | {"ranges": [_finite(ends) for ends in schema.ranges]}


def schema_of(plain: Mapping[str, Any]) -> Schema:
    """The schema of a `plain_schema`."""
    ranges = [_ends(ends) for ends in plain.get("ranges", ())]
    return TypeAdapter(Schema).validate_python({**plain, "ranges": ranges})


def restore_encoder(values: pd.DataFrame, description: Mapping[str, Any]) -> Encoder:
    """The encoder of a `vocabulary_table` and its description, see `describe_encoder`.

    Raises:
        ValueError: the values are not those of the description.
    """
    columns = _roles(description)
    own = {name: rows["value"] for name, rows in values.groupby("field", observed=True, sort=False)}
    vocabularies: dict[str, Vocabulary | MultiValued] = {}
    for name, kind in description["types"].items():
        texts = own.get(name, pd.Series(dtype=str))
        known = Vocabulary(pd.Index(texts, name=None).astype(TYPES[kind]))
        width = description["widths"].get(name)
        vocabularies[name] = (
            known if width is None else MultiValued(known, width, columns.value_separators[name])
        )
    if _digest(vocabularies) != description["vocabulary_sha256"]:
        raise ValueError("the values are not those that the encoder was saved with")
    return encoder_of(description, vocabularies)


def encoder_of(
    description: Mapping[str, Any], vocabularies: Mapping[str, Vocabulary | MultiValued]
) -> Encoder:
    """The encoder of a description, with these vocabularies."""
    scalers = {name: Scaler(**scaler) for name, scaler in description["scalers"].items()}
    schema = schema_of(description["schema"])
    return Encoder(schema, vocabularies, scalers, _roles(description))


def _roles(description: Mapping[str, Any]) -> Columns:
    roles = dict(description["roles"])
    roles["ranges"] = {name: _ends(ends) for name, ends in roles["ranges"].items()}
    return TypeAdapter(Columns).validate_python(roles)


def value_type(values: pd.Index) -> str:
    """The type of the values of a vocabulary, one of `TYPES`."""
    if pd.api.types.is_integer_dtype(values.dtype):
        return "integer"
    return "number" if pd.api.types.is_float_dtype(values.dtype) else "text"


def _digest(vocabularies: Mapping[str, Vocabulary | MultiValued]) -> str:
    found = hashlib.sha256()
    for name, known in vocabularies.items():
        values = known.values
        found.update(json.dumps([name, value_type(values), len(values)]).encode())
        found.update("\0".join(values.astype(str)).encode())
    return found.hexdigest()


def _finite(ends: tuple[float, float]) -> list[float | None]:
    return [None if isinf(end) else end for end in ends]


def _ends(ends: list[float | None]) -> tuple[float, float]:
    low, high = ends
    return -inf if low is None else low, inf if high is None else high


def row_keys(parts: Parts, columns: Columns) -> pd.DataFrame:
    """The keys of all rows but drawn candidates, by which other runs recognise the same rows.

    Returns:
        a frame with the columns `row` (the number of the row in its file, from 1, header and
        empty lines not counted), `key` (uint64: a hash of the values of all columns that are read,
        by name, but for the split column and the history) and `split` (train, val or test).
    """
    names = sorted(({*parts.train.frame} & {*columns.all}) - {columns.split})
    frames = [_keys(part, names) for part in parts]
    rows = pd.concat(frames, ignore_index=True)
    split = np.repeat(np.arange(len(SPLITS)), [len(frame) for frame in frames])
    return rows.assign(split=pd.Categorical.from_codes(split, pd.Index(SPLITS)))


def _keys(part: Part, names: list[str]) -> pd.DataFrame:
    frame = happened(part)[names]
    keys = pd.util.hash_pandas_object(frame, index=False).to_numpy(np.uint64)
    return pd.DataFrame({"row": frame.index.to_numpy(np.int64) + 1, "key": keys})


def overlap(rows: pd.DataFrame, trained: np.ndarray) -> Iterator[tuple[str, int, int, int]]:
    """How many of the held-out rows have the key of a row that was trained on, by split.

    `rows` are from `row_keys`; `trained` (M,) uint64 are the keys that a model was trained on.

    Yields:
        of each held-out split: its name, the number of its rows, how many of them are in `trained`,
        and how many are in the training split of `rows` itself.
    """
    own = rows.loc[rows["split"] == "train", "key"].to_numpy()
    for name in SPLITS[1:]:
        keys = rows.loc[rows["split"] == name, "key"].to_numpy()
        yield name, len(keys), int(np.isin(keys, trained).sum()), int(np.isin(keys, own).sum())

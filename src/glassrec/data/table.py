"""Bring your own data: a CSV or parquet file, and a short YAML file that says what it holds."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import yaml
from annotated_types import Ge, Len
from pydantic import FilePath, TypeAdapter, ValidationError

from glassrec.data.audit import audit
from glassrec.data.columns import (
    Columns,
    check_labels,
    check_names,
    check_numbers,
    check_ranges,
)
from glassrec.data.dataset import Dataset, Source
from glassrec.data.encoding import assemble
from glassrec.data.events import select_events
from glassrec.data.history import with_history
from glassrec.data.reading import (
    NUMBER,
    TEXT,
    Origin,
    existing,
    fingerprint,
    first_row,
    parquet_names,
    read_parquet,
    read_text,
)
from glassrec.data.sides import check_item_side
from glassrec.data.splits import Random, Splitter
from glassrec.spelling import one_of


@dataclass(frozen=True)
class Table(Source):
    """Rows of a table, with the roles of its columns in a YAML file such as this one:

    ```yaml
    label: clicked                 # 0 or 1; leave it out where every row is a positive
    rating: stars                  # or a number to be estimated; both are two tasks
    user: user_id                  # optional, but leave-one-out needs both
    item: sku
    categorical: [city, device, brand]
    item_side: [brand]             # columns that follow from the item, dense ones too
    context: [device]              # columns that describe the moment, although they seem to follow
                                   # from the item
    several: [tags]                # categorical columns with cells of several values: a|b|c
    dense: [price, age, views]     # numbers, standardised
    log: [views]                   # dense columns that are counts: log(1 + x) first
    missing_ok: [age]              # dense columns that may be empty: empty becomes the mean
    ranges: {age: [0, 120]}        # what dense columns always lie within; for proofs in pruning
    time: clicked_at               # a number or an ISO 8601 date; for by_time and leave_one_out
    split: fold                    # for the given split: train, validation or test
    ```

    Columns that it does not name are not read. Categories are read as text; an empty one is a value
    of its own. A CSV file has a header and one row a line. With leave-one-out there is no label:
    every row is a positive.

    Attributes:
        path: the table; a name that ends in `.parquet` is parquet, anything else text.
        columns: the YAML file.
        split: how rows are divided.
        separator: what stands between the cells of a text file.
        negatives: with leave-one-out, how many negatives a training positive gets, drawn afresh
            each epoch.
        min_count: how often a category must occur in training to get an id of its own; the others
            share the id of unseen ones.
        history: how many of the user's earlier items a row shows, by `time` or, without one, by
            file order; 0 for none. Training rows must precede the held-out ones of their user.
        duplicates: whether to drop second records of one event, see `events.duplicate_events`.
        repeats: whether to drop rows of an item that their user took before, so that every held-out
            positive is new to its user.
    """

    path: FilePath
    columns: FilePath
    split: Splitter = field(default_factory=Random)
    separator: Annotated[str, Len(1, 1)] = ","
    negatives: Annotated[int, Ge(1)] = 4
    min_count: Annotated[int, Ge(1)] = 1
    history: Annotated[int, Ge(0)] = 0
    duplicates: Literal["drop", "keep"] = "drop"
    repeats: Literal["drop", "keep"] = "keep"

    def fingerprint(self) -> dict[str, str]:
        """The sha256 of the table and of the YAML file."""
        return fingerprint([Path(self.path), Path(self.columns)])

    def load(self, seed: int) -> Dataset:
        """The rows of the table, divided."""
        columns = read_columns(Path(self.columns))
        frame, origin = self._read(columns)
        if columns.label is not None:
            check_labels(frame[columns.label], origin)
        check_numbers(frame, columns, origin)
        check_ranges(frame, columns, origin)
        for name in filter(None, (columns.user, columns.item)):
            _check_filled(frame[name], origin)
        check_item_side(frame, columns, origin)
        if columns.time is not None:
            frame[columns.time] = _moments(frame[columns.time], origin)
        found = audit(frame, columns, dropped=self.duplicates == "drop")
        frame = select_events(frame, columns, duplicates=self.duplicates, repeated=self.repeats)
        frame = with_history(frame, columns, self.history)
        parts = self.split.split(frame, columns, torch.Generator().manual_seed(seed))
        return assemble(
            parts,
            columns,
            negatives=self.negatives,
            min_count=self.min_count,
            history=self.history,
            audit=found,
        )

    def _read(self, columns: Columns) -> tuple[pd.DataFrame, Origin]:
        path = Path(self.path)
        parquet = path.suffix == ".parquet"
        names = parquet_names(path) if parquet else first_row(path, self.separator)
        check_names(columns.all, names, str(path))
        types = {name: _kind(name, columns) for name in columns.all}
        if parquet:
            return read_parquet(path, types), Origin(path, unit="row")
        frame = read_text(path, types, names=names, separator=self.separator, quote='"')
        return frame, Origin(path, first=2)


def read_columns(path: Path) -> Columns:
    """The roles that a YAML file gives; ValueError if it holds anything else."""
    try:
        roles = yaml.safe_load(existing(path).read_text(encoding="utf8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from None
    if not isinstance(roles, dict):
        raise ValueError(f"{path}: a mapping of roles to columns is needed, such as 'label: click'")
    known = [role.name for role in fields(Columns)]
    for role in roles:
        if role not in known:
            raise ValueError(f"{path}: no role {role!r}{one_of(str(role), known)}")
    try:
        return TypeAdapter(Columns).validate_python(roles)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {where}: {first['msg']} (found {first['input']!r})") from None


def _kind(name: str, columns: Columns) -> pa.DataType:
    return NUMBER if name in (*columns.numbers, columns.label) else TEXT


def _check_filled(values: pd.Series, origin: Origin) -> None:
    """ValueError at the first empty id."""
    empty = (values.isna() | (values == "")).to_numpy()
    if empty.any():
        row = int(empty.argmax())
        raise ValueError(f"{origin.at(row)}: {values.name} is empty; mend or remove the line")


def _moments(values: pd.Series, origin: Origin) -> np.ndarray:
    """(N,) times as numbers; ValueError at the first that is neither a number nor ISO 8601."""
    text = values.astype(str)
    times = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    bad = np.isnan(times)
    if not bad.any():
        return times
    if not bad.all():  # numbers, then, and not dates
        row = int(bad.argmax())
        raise ValueError(
            f"{origin.at(row)}: {values.name} is {text.iloc[row]!r}, not a number as "
            "in other rows; mend or remove the line"
        )
    dates = pd.to_datetime(text, errors="coerce", format="ISO8601", utc=True)
    if dates.isna().any():
        row = int(dates.isna().to_numpy().argmax())
        raise ValueError(
            f"{origin.at(row)}: {values.name} is {text.iloc[row]!r}, not a time; write a number "
            "or a date as in 2024-01-31T12:30:00, the same in all rows"
        )
    return dates.astype("int64").to_numpy()

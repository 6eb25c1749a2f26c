"""Raw tables that a run keeps: its items, who took which of them and when, users' last rows, and
samples of its rows.

Their values are the user's own. They let a run recommend, explain and export without its data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from glassrec.data.cells import LIST_MARK
from glassrec.data.columns import Columns, Part, Parts, happened
from glassrec.data.encoding import Encoder
from glassrec.data.events import EARLIER, step_names

ITEM, DISPLAY_NAME, TRAINING_COUNT = "item", "display_name", "training_count"
"""The first columns of the catalogue; the columns of `item_side` follow."""

USER, TIME = "user", "time"
"""With `ITEM` the first columns of the interactions; `TIME` only where the data has times."""

LABEL, RATING, ROW = "label", "rating", "row"
"""The next ones: the outcome, as far as the data has it, and the row in its file, from 1."""

SAMPLES = 256
"""How many rows the samples have at most."""


class RowLog(NamedTuple):
    """All rows of a source before they are divided, also those that only histories show."""

    frame: pd.DataFrame
    order: np.ndarray | None = None
    """(N,) the sort key of the rows of a user; by default the time, or the order of the frame"""
    date_unit: str | None = None
    """where times were written as dates: the unit of their numbers, counted from 1970 in UTC"""

    @classmethod
    def from_parts(cls, parts: Parts) -> RowLog:
        """All rows that happened: of a ranking list, the first one."""
        return cls(pd.concat([happened(part) for part in parts]).sort_index(kind="stable"))


class RawTables(NamedTuple):
    """The tables of a log."""

    catalogue: pd.DataFrame | None
    """A row for each item of the log: `ITEM`, `DISPLAY_NAME`, `TRAINING_COUNT` (training rows),
    then the columns of `item_side`. The first ones are the items of the encoder's vocabulary, in
    the order of their ids (row i has the id i + 1); the model does not know the others. None
    without an item column."""
    interactions: pd.DataFrame | None
    """A row for each row of the log: `USER`, `ITEM`, `TIME` (a number, or a time in UTC where dates
    were written), `LABEL`, `RATING`, `ROW`. The rows of a user lie together, oldest first. None
    without a user or an item column."""
    last_rows: pd.DataFrame | None
    """A row for each user of the log, in the order of the interactions: `USER`, then all columns
    that do not follow from the item, as they are in the user's last row. None as above."""
    samples: pd.DataFrame
    """Up to `SAMPLES` rows of the validation split, evenly spaced: the columns that the encoder
    reads and, of sequence models, `EARLIER`: the items of the history as `a|b|c`, oldest first."""


def raw_tables(log: RowLog, parts: Parts, encoder: Encoder) -> RawTables:
    """The tables of a log.

    Args:
        log: all rows.
        parts: the training rows, which are counted, and the validation rows.
        encoder: of the training rows.
    """
    columns, samples = encoder.columns, _samples(parts.validation, encoder)
    if columns.item is None:
        return RawTables(None, None, None, samples)
    catalogue = _catalogue(log.frame, parts.train.frame[columns.item], encoder)
    if columns.user is None:
        return RawTables(catalogue, None, None, samples)
    frame = log.frame
    users, _ = pd.factorize(frame[columns.user])
    order = np.arange(len(frame)) if columns.time is None else columns.times(frame)
    sequence = np.lexsort((order if log.order is None else log.order, users))
    last = sequence[np.r_[np.diff(users[sequence]) != 0, True]] if len(frame) else sequence
    context = [
        name for name in (*columns.categorical, *columns.dense) if name not in columns.item_side
    ]
    return RawTables(
        catalogue,
        _interactions(log, columns, sequence),
        _named([USER, *context], [frame[name].array[last] for name in (columns.user, *context)]),
        samples,
    )


def _samples(part: Part, encoder: Encoder) -> pd.DataFrame:
    rows, columns = happened(part), encoder.columns
    places = sample_places(len(rows))
    steps = step_names(encoder.schema.history_length)
    rows = rows[[*columns.fields, *columns.dense, *steps]].take(places).reset_index(drop=True)
    found = rows[[*columns.fields, *columns.dense]].copy()
    for name, kind in found.dtypes.items():
        if isinstance(kind, pd.CategoricalDtype):  # without the categories of other rows
            found[name] = found[name].astype(kind.categories.dtype)
    if steps:
        cells = zip(*(rows[step].astype(object) for step in steps), strict=True)
        found[EARLIER] = [_joined([str(c) for c in row if pd.notna(c)]) for row in cells]
    return found


def sample_places(rows: int) -> np.ndarray:
    """(S,) int64: the places of the samples among so many validation rows, evenly spaced."""
    return np.linspace(0, rows - 1, min(rows, SAMPLES)).astype(np.int64)


def _joined(values: list[str]) -> str:
    """The cell of several values: `a|b|c`, or as of a list where a value holds the separator."""
    if any("|" in value for value in values):
        return "".join(LIST_MARK + value for value in values)
    return "|".join(values)


def _catalogue(frame: pd.DataFrame, trained: pd.Series, encoder: Encoder) -> pd.DataFrame:
    columns, known = encoder.columns, encoder.vocabularies[encoder.columns.item or ""].values
    first = frame[~frame[columns.item].duplicated()]
    values = pd.Index(first[columns.item].astype(known.dtype), name=ITEM)
    items = known.append(values.difference(known)).rename(ITEM)
    rows = first.take(values.get_indexer(items))
    counts = trained.value_counts(sort=False)
    counts.index = counts.index.astype(known.dtype)
    names = pd.Series(items.astype(str))
    if columns.item_name is not None:
        own = rows[columns.item_name].astype(str).reset_index(drop=True)
        names = own.where(own != "", names)
    parts = [items, names, counts.reindex(items, fill_value=0).to_numpy()]
    side = [rows[name].array for name in columns.item_side]
    return _named([ITEM, DISPLAY_NAME, TRAINING_COUNT, *columns.item_side], [*parts, *side])


def _interactions(log: RowLog, columns: Columns, sequence: np.ndarray) -> pd.DataFrame:
    roles = {
        USER: columns.user,
        ITEM: columns.item,
        TIME: columns.time,
        LABEL: columns.label,
        RATING: columns.rating,
    }
    found = pd.DataFrame(
        {role: log.frame[name].array[sequence] for role, name in roles.items() if name is not None}
    )
    if columns.time is not None and log.date_unit is not None:
        dates = found[TIME].to_numpy().astype(f"datetime64[{log.date_unit}]")
        found[TIME] = pd.Series(dates).dt.tz_localize("UTC")
    return found.assign(**{ROW: log.frame.index.to_numpy(np.int64)[sequence] + 1})


def _named(names: Sequence[str], parts: Sequence[object]) -> pd.DataFrame:
    """A frame of columns; a later one of the name of an earlier one gets an underscore."""
    found: dict[str, object] = {}
    for name, part in zip(names, parts, strict=True):
        while name in found:
            name += "_"
        found[name] = part
    return pd.DataFrame(found)

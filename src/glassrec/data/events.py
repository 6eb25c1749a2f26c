"""Events of a log: records of one event, and a user's return to an item."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from glassrec.data.columns import Columns

Policy = Literal["drop", "keep"]


def duplicate_events(frame: pd.DataFrame, columns: Columns) -> np.ndarray:
    """(N,) bool: whether a row records an event that an earlier row of the frame records.

    Where every row is a positive, an event is a user, an item and a time; where there is no time
    column, rows that agree in all columns that are read are one event, since nothing tells them
    apart. Labelled rows are one event if they agree in user, item, time and all other columns: the
    same impression may be recorded with different outcomes, and without a time many impressions may
    look the same. Without a user or an item column, no row is known to be a duplicate. A column
    that says how rows are split is no part of an event.
    """
    labelled = columns.label is not None or columns.rating is not None
    again = pairs_again(frame, columns)
    if not again.any() or (labelled and columns.time is None):
        return np.zeros(len(frame), bool)
    if labelled or columns.time is None:
        return identical_rows(frame, columns)
    return _equal_rows(frame, [columns.user or "", columns.item or "", columns.time])


def identical_rows(frame: pd.DataFrame, columns: Columns, *, of: int | None = None) -> np.ndarray:
    """(N,) bool: whether a row equals an earlier one, or one of the first `of`, in all columns."""
    names = dict.fromkeys([*columns.dense, *columns.fields, *columns.all])  # dense tell most apart
    return _equal_rows(frame, [name for name in names if name != columns.split], of)


def pairs_again(frame: pd.DataFrame, columns: Columns) -> np.ndarray:
    """(N,) bool: whether an earlier row of the frame has the same user and item."""
    if columns.user is None or columns.item is None:
        return np.zeros(len(frame), bool)
    return _equal_rows(frame, [columns.user, columns.item])


def _equal_rows(frame: pd.DataFrame, names: list[str], of: int | None = None) -> np.ndarray:
    """(N,) bool: whether a row equals an earlier one, or one of the first `of`, in these columns.

    Column by column, only rows that equal another so far are looked at.
    """
    rows, keys = np.arange(len(frame)), np.zeros(len(frame), np.int64)
    for name in names:
        codes, known = pd.factorize(frame[name].array[rows], use_na_sentinel=False)
        keys = keys * len(known) + codes
        again = pd.Series(keys).duplicated(keep=False).to_numpy()
        rows = rows[again]
        keys, _ = pd.factorize(keys[again])  # small again, so that no product overflows
    found = np.zeros(len(frame), bool)
    if of is None:
        found[rows] = pd.Series(keys).duplicated().to_numpy()
    else:
        found[rows] = np.isin(keys, keys[rows < of])
    return found


def repeats(frame: pd.DataFrame, columns: Columns) -> np.ndarray:
    """(N,) bool: whether the row's user has the row's item in a row before, by time and file order.

    All are False without a user or an item column.
    """
    found = np.zeros(len(frame), bool)
    if columns.user is not None and columns.item is not None:
        order = np.argsort(columns.times(frame), kind="stable")
        found[order] = frame[[columns.user, columns.item]].iloc[order].duplicated().to_numpy()
    return found


def select_events(
    frame: pd.DataFrame, columns: Columns, *, duplicates: Policy, repeated: Policy
) -> pd.DataFrame:
    """The rows that are left, under their old index, when duplicates or repeats are dropped.

    Of duplicates the first row in the file is kept; of a user's rows of one item, the first in
    time.

    Raises:
        ValueError: repeats are to be dropped, and there is no user or no item column.
    """
    if duplicates == "drop":
        frame = frame[~duplicate_events(frame, columns)]
    if repeated == "drop":
        if columns.user is None or columns.item is None:
            raise ValueError(
                "repeats are rows of one user and one item, and the data names no "
                f"{'user' if columns.user is None else 'item'} column; set data.repeats=keep, or "
                "name one"
            )
        frame = frame[~repeats(frame, columns)]
    return frame

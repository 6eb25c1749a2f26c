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
    look the same. Without a user or an item column, no row is known to be a duplicate.
    """
    labelled = columns.label is not None or columns.rating is not None
    if columns.user is None or columns.item is None or (labelled and columns.time is None):
        return np.zeros(len(frame), bool)
    identical = labelled or columns.time is None
    key = [*columns.all] if identical else [columns.user, columns.item, columns.time or ""]
    return frame.duplicated(key).to_numpy()


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

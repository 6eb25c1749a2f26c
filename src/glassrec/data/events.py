"""Events of a log: records of one event, a user's return to an item, and the items before a row.

A row's history are the user's rows of strictly earlier time: neither the row itself, nor a second
record of its event. Of rows of one time, as steps of a later row, the order is that of the file.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from glassrec.data.columns import Columns, Parts

Policy = Literal["drop", "keep"]

EARLIER = "history"
"""The column that holds the number of rows of the user that are strictly earlier than a row."""


def repeated_pairs(frame: pd.DataFrame, columns: Columns) -> np.ndarray:
    """(M,) the positions of rows whose user and item stand together in another row too.

    All rows without a user or an item column.
    """
    rows = np.arange(len(frame))
    if columns.user is None or columns.item is None:
        return rows
    return _groups(frame, [columns.user, columns.item], rows)[0]


def duplicate_events(frame: pd.DataFrame, columns: Columns, among: np.ndarray) -> np.ndarray:
    """(N,) bool: whether a row records an event that an earlier row of the frame records.

    Where every row is a positive, an event is a user, an item and a time; without a time column,
    rows that agree in all columns that are read are one event, since nothing distinguishes them.
    Labelled rows are one event if they agree in user, item, time and all other columns: the
    same impression may be recorded with different outcomes, and without a time many impressions may
    look the same. Without a user or an item column, no row is known to be a duplicate. A column
    that assigns rows to splits is no part of an event. `among` are the `repeated_pairs`.
    """
    labelled = columns.label is not None or columns.rating is not None
    if columns.user is None or columns.item is None or (labelled and columns.time is None):
        return np.zeros(len(frame), bool)
    if labelled or columns.time is None:
        return identical_rows(frame, columns, among)
    return _again(frame, [columns.user, columns.item, columns.time], among)


def identical_rows(frame: pd.DataFrame, columns: Columns, among: np.ndarray) -> np.ndarray:
    """(N,) bool: whether a row equals an earlier one in all columns; see `duplicate_events`."""
    return _again(frame, _compared(columns), among)


def rows_of_both(frame: pd.DataFrame, other: pd.DataFrame, columns: Columns) -> int:
    """How many rows of `frame` equal a row of `other` in all columns."""
    names = _compared(columns)
    both = pd.concat([other[names], frame[names]], ignore_index=True)
    rows, keys = _groups(both, names, repeated_pairs(both, columns))
    there = rows < len(other)
    return int(np.isin(keys[~there], keys[there]).sum())


def repeats(frame: pd.DataFrame, columns: Columns, among: np.ndarray) -> np.ndarray:
    """(N,) bool: whether the row's user has the row's item in a row before, by time and file order.

    Beside a label, an item that was shown and not taken (label 0) does not count as had before.
    """
    found = np.zeros(len(frame), bool)
    if columns.user is None or columns.item is None:
        return found
    order = among[np.argsort(columns.times(frame)[among], kind="stable")]
    rows = frame[[columns.user, columns.item]].iloc[order]
    if columns.label is None:
        found[order] = rows.duplicated().to_numpy()
        return found
    taken = (frame[columns.label].to_numpy()[order] == 1).astype(np.int64)
    pairs = rows.groupby([columns.user, columns.item], observed=True, sort=False).ngroup()
    found[order] = pd.Series(taken).groupby(pairs.to_numpy()).cumsum().to_numpy() > taken
    return found


def _compared(columns: Columns) -> list[str]:
    """The columns that are read, those of most distinct values first, without that of a split."""
    names = dict.fromkeys([*columns.dense, *columns.fields, *columns.all])
    return [name for name in names if name != columns.split]


def _again(frame: pd.DataFrame, names: list[str], among: np.ndarray) -> np.ndarray:
    """(N,) bool: whether a row equals an earlier one in these columns; only rows `among` can."""
    rows, keys = _groups(frame, names, among)
    found = np.zeros(len(frame), bool)
    found[rows] = pd.Series(keys).duplicated().to_numpy()
    return found


def _groups(
    frame: pd.DataFrame, names: list[str], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Those of `rows` that equal another in these columns, and (M,) equal keys for equal rows."""
    keys, size = np.zeros(len(rows), np.int64), 1
    for at, name in enumerate(names):
        if not len(rows):
            break
        whole = len(rows) == len(frame)
        column = frame[name].array if whole else frame[name].array[rows]
        codes, known = pd.factorize(column, use_na_sentinel=False)
        keys, size = keys * len(known) + codes, size * len(known)
        if size >= len(rows) or at == len(names) - 1:
            again = pd.Series(keys).duplicated(keep=False).to_numpy()
            rows = rows[again]
            keys, kept = pd.factorize(keys[again])  # small again, so that no product overflows
            size = len(kept)
    return rows, keys


def step_names(length: int) -> list[str]:
    """The columns of a history, oldest first: `history[-2]`, `history[-1]`."""
    return [f"history[{step}]" for step in range(-length, 0)]


def with_history(
    frame: pd.DataFrame, columns: Columns, length: int, *, order: np.ndarray | None = None
) -> pd.DataFrame:
    """The rows with the last T = `length` earlier items of their users, and `EARLIER`.

    The items are in T categorical columns, missing where a user has had fewer; a length of 0 leaves
    the frame as it is. `order` (N,) is the sort key of the rows of a user, by default the time
    column or, without one, the order of the file.

    Raises:
        ValueError: there is no user or no item column, or a column has the name of a step.
    """
    if not length:
        return frame
    if columns.user is None or columns.item is None:
        raise ValueError("a history needs a user and an item column; name both, or set history: 0")
    for name in (EARLIER, *step_names(length)):
        if name in frame:
            raise ValueError(f"a history takes the column name {name!r}; rename yours")
    users, _ = pd.factorize(frame[columns.user])
    items = pd.Categorical(frame[columns.item])
    if order is None:
        order = np.arange(len(frame)) if columns.time is None else columns.times(frame)
    sequence = np.lexsort((order, users))
    users, order = users[sequence], order[sequence]
    rows = np.arange(len(frame))
    new = np.r_[True, (users[1:] != users[:-1]) | (order[1:] != order[:-1])][: len(frame)]
    first_of_ties = np.maximum.accumulate(np.where(new, rows, 0))  # the rows before it are earlier
    starts = np.r_[0, np.bincount(users).cumsum()[:-1]]
    earlier, ends = np.empty((2, len(frame)), np.int64)
    earlier[sequence], ends[sequence] = first_of_ties - starts[users], first_of_ties
    before = np.r_[np.full(length, -1, items.codes.dtype), items.codes[sequence]]
    codes = np.lib.stride_tricks.sliding_window_view(before, length)[ends]
    codes[earlier[:, None] < np.arange(length, 0, -1)] = -1  # those are rows of another user
    steps = {
        name: pd.Categorical.from_codes(codes[:, at], dtype=items.dtype)
        for at, name in enumerate(step_names(length))
    }
    return pd.concat([frame, pd.DataFrame({EARLIER: earlier, **steps}, index=frame.index)], axis=1)


def last_rows(frame: pd.DataFrame, columns: Columns) -> np.ndarray:
    """(U,) the position of each user's last row: that with the most earlier ones."""
    rows = frame[[columns.user, EARLIER]].reset_index(drop=True).sort_values(EARLIER, kind="stable")
    return rows.drop_duplicates(columns.user, keep="last").index.to_numpy()


def check_past(parts: Parts, columns: Columns) -> None:
    """ValueError if a training row lies behind a held-out one of the same user.

    Its history would hold held-out items, and training would learn from them.
    """
    train = len(parts.train.frame)
    users, names = pd.factorize(pd.concat([part.frame[columns.user] for part in parts]))
    earlier = np.concatenate([part.frame[EARLIER] for part in parts])
    last = np.full(len(names), -1)
    np.maximum.at(last, users[:train], earlier[:train])
    bad = earlier[train:] < last[users[train:]]
    if bad.any():
        raise ValueError(
            f"user {names[users[train:][bad.argmax()]]} has training rows behind a held-out one, "
            "which their history would show; with a history, choose a split that holds out each "
            "user's last rows (by_time, leave_one_out; validation=newest in ncf)"
        )

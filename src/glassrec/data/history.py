"""The items that a user had before each row, computed on the whole log before it is divided.

A row's history are the user's rows of strictly earlier time, so that it holds neither the row
itself, nor a second record of the same event, nor anything behind it. Rows of one time are not
earlier than each other; as steps of a later row they stand in file order. The history becomes
columns of the raw rows, and travels with a row to the candidates that it is ranked against and to
its negatives.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from glassrec.data.columns import Columns, Parts

EARLIER = "history"
"""The column that holds the number of rows of the user that are strictly earlier than a row."""


def step_names(length: int) -> list[str]:
    """The columns of a history, oldest first: `history[-2]`, `history[-1]`."""
    return [f"history[{step}]" for step in range(-length, 0)]


def with_history(
    frame: pd.DataFrame, columns: Columns, length: int, *, order: np.ndarray | None = None
) -> pd.DataFrame:
    """The rows with the last `length` earlier items of their users, and `EARLIER`.

    Args:
        frame: the whole log.
        columns: the roles of its columns.
        length: T, how many steps; 0 leaves the frame as it is.
        order: (N,) the sort key of the rows of a user; by default the time column or, without one,
            the order of the file.

    Returns:
        the frame with T categorical columns of the log's items, missing where a user has had fewer.

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

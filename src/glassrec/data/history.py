"""The items that a user had before each row, read off the whole log before it is divided.

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

PLACE = "history"
"""The column that holds the number of rows of the user that are strictly earlier than a row."""


def step_names(length: int) -> list[str]:
    """The columns of a history, oldest first: `history[-2]`, `history[-1]`."""
    return [f"history[{step}]" for step in range(-length, 0)]


def with_history(
    frame: pd.DataFrame, columns: Columns, length: int, *, order: np.ndarray | None = None
) -> pd.DataFrame:
    """The rows with the last `length` earlier items of their users, and `PLACE`.

    Args:
        frame: the whole log.
        columns: the roles of its columns.
        length: T, how many steps; 0 leaves the frame as it is.
        order: (N,) what orders the rows of a user; by default the time column or, without one, the
            order of the file.

    Returns:
        the frame with T categorical columns of the log's items, missing where a user has had fewer.

    Raises:
        ValueError: there is no user or no item column, or a column has the name of a step.
    """
    if not length:
        return frame
    if columns.user is None or columns.item is None:
        raise ValueError("a history needs a user and an item column; name both, or set history: 0")
    taken = [name for name in (PLACE, *step_names(length)) if name in frame]
    if taken:
        raise ValueError(f"a history takes the column name {taken[0]!r}; rename yours")
    users, _ = pd.factorize(frame[columns.user])
    items = pd.Categorical(frame[columns.item])
    if order is None:
        order = np.arange(len(frame)) if columns.time is None else columns.times(frame)
    sequence = np.lexsort((order, users))
    earlier = _first_of_ties(users[sequence], order[sequence])  # the rows before this one
    starts = np.r_[0, np.bincount(users).cumsum()[:-1]]
    place = np.empty(len(frame), np.int64)
    place[sequence] = earlier - starts[users[sequence]]
    before = np.r_[np.full(length, -1, items.codes.dtype), items.codes[sequence]]
    codes = np.empty((len(frame), length), items.codes.dtype)
    codes[sequence] = np.lib.stride_tricks.sliding_window_view(before, length)[earlier]
    codes[place[:, None] < np.arange(length, 0, -1)] = -1  # those are rows of another user
    steps = {
        name: pd.Categorical.from_codes(codes[:, at], dtype=items.dtype)
        for at, name in enumerate(step_names(length))
    }
    return pd.concat([frame, pd.DataFrame({PLACE: place, **steps}, index=frame.index)], axis=1)


def _first_of_ties(users: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(N,) for each of sorted rows, the position of the first row of its user and time."""
    new = np.ones(len(users), bool)
    new[1:] = (users[1:] != users[:-1]) | (order[1:] != order[:-1])
    return np.maximum.accumulate(np.where(new, np.arange(len(users)), 0))


def check_past(parts: Parts, user: str) -> None:
    """ValueError if a training row lies behind a held-out one of the same user.

    Its history would hold what is held out, and training would learn from it.
    """
    train = len(parts.train.frame)
    people, names = pd.factorize(pd.concat([part.frame[user] for part in parts]))
    place = np.concatenate([part.frame[PLACE] for part in parts])
    last = np.full(len(names), -1)
    np.maximum.at(last, people[:train], place[:train])
    bad = place[train:] < last[people[train:]]
    if bad.any():
        raise ValueError(
            f"user {names[people[train:][bad.argmax()]]} has training rows behind a held-out one, "
            "which their history would show; with a history, choose a split that holds out each "
            "user's last rows (by_time, leave_one_out; validation=newest in ncf)"
        )

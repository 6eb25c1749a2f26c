"""How rows are divided into training, validation and test rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge, Interval, Lt

from glassrec.data.catalogue import ranking_lists
from glassrec.data.columns import Columns, Part, Parts
from glassrec.data.schema import Target
from glassrec.spelling import one_of


class Splitter(ABC):
    """How rows are divided. A splitter is a frozen dataclass: its fields are its configuration."""

    ranked: ClassVar[bool] = False
    """Whether every row counts as a positive and held-out rows are judged in ranking lists."""

    seeded: ClassVar[bool] = True
    """Whether the parts depend on the seed."""

    def drawn_by(self, seed: int) -> int | None:
        """The seed that decides the parts in a run of the seed `seed`; None if none does."""
        own = getattr(self, "seed", None)
        return (seed if own is None else own) if self.seeded else None

    def generator(self, seed: int) -> torch.Generator:
        """What `split` draws from in a run of the seed `seed`."""
        return torch.Generator().manual_seed(self.drawn_by(seed) or 0)

    @abstractmethod
    def split(self, frame: pd.DataFrame, columns: Columns, generator: torch.Generator) -> Parts:
        """Divide the rows of `frame`; `generator` is the only source of randomness.

        Raises:
            ValueError: the frame lacks a column or rows that this split needs.
        """


@dataclass(frozen=True)
class Given(Splitter):
    """A column says which part a row belongs to, by these three values."""

    seeded: ClassVar[bool] = False

    train: str = "train"
    validation: str = "validation"
    test: str = "test"

    def split(self, frame: pd.DataFrame, columns: Columns, generator: torch.Generator) -> Parts:
        """The rows by the value of the column `columns.split`."""
        if columns.split is None:
            raise ValueError("a given split needs a split column, and this data names none")
        values = frame[columns.split].astype(str)
        names = (self.train, self.validation, self.test)
        unknown = values[~values.isin(names).to_numpy()]
        if len(unknown):
            raise ValueError(
                f"column {columns.split!r} has the value {unknown.iloc[0]!r} in row "
                f"{unknown.index[0] + 1}{one_of(unknown.iloc[0], names)}"
            )
        return _pointwise(frame, columns, [np.flatnonzero(values == name) for name in names])


@dataclass(frozen=True)
class _InShares(Splitter):
    validation: Annotated[float, Interval(gt=0, lt=1)] = 0.1
    test: Annotated[float, Interval(gt=0, lt=1)] = 0.1

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation {self.validation} + test {self.test} leaves no row to train on; "
                "their sum must be below 1"
            )

    def _cut(self, order: np.ndarray) -> list[np.ndarray]:
        n = len(order)
        start = n - round(n * self.test)
        return np.split(order, [start - round(n * self.validation), start])


@dataclass(frozen=True)
class Random(_InShares):
    """Rows at random, in shares; `seed` is that of the run, if none is given."""

    seed: Annotated[int, Ge(0), Lt(2**63)] | None = None

    def split(self, frame: pd.DataFrame, columns: Columns, generator: torch.Generator) -> Parts:
        """The rows in a random order, cut in three, each part in file order again."""
        order = torch.randperm(len(frame), generator=generator).numpy()
        return _pointwise(frame, columns, [np.sort(rows) for rows in self._cut(order)])


@dataclass(frozen=True)
class ByTime(_InShares):
    """The oldest rows train, the newest test.

    Rows of equal time stay in file order. Data without a time column must state that its rows are
    in order of time (`Columns.chronological`).
    """

    seeded: ClassVar[bool] = False

    test: Annotated[float, Interval(gt=0, lt=1)] = 0.2

    def split(self, frame: pd.DataFrame, columns: Columns, generator: torch.Generator) -> Parts:
        """The rows by time, cut in three."""
        if columns.time is None and not columns.chronological:
            raise ValueError(
                "data/split=by_time: the data names no time column; name one under `time`, write "
                "`chronological: true` if its rows are in order of time, or set data/split=random"
            )
        order = np.argsort(columns.times(frame), kind="stable")
        return _pointwise(frame, columns, self._cut(order))


@dataclass(frozen=True)
class LeaveOneOut(Splitter):
    """Each user's last row tests, the one before validates, the rest train (He et al., WWW 2017).

    Every row is a positive. Each held-out one is ranked against `candidates` items that the user
    never chose. Rows of equal time are in file order.

    Where the user took one item several times in the end, the row that validates is the last one of
    another item, so that no epoch is chosen on the item that tests; the rows between the two, all
    of the test item, are later than it and so are in no part. Nor are further records of the event
    of a held-out row. Users who have no row before these stay in train.
    """

    ranked: ClassVar[bool] = True

    candidates: Annotated[int, Ge(1)] = 99
    seed: Annotated[int, Ge(0), Lt(2**63)] | None = None
    """of the candidates; that of the run, if none is given"""

    def split(self, frame: pd.DataFrame, columns: Columns, generator: torch.Generator) -> Parts:
        """Training rows in file order, and two sets of ranking lists."""
        if columns.user is None or columns.item is None:
            raise ValueError("leave-one-out needs a user and an item column; choose another split")
        if columns.label or columns.rating or columns.retrieval:
            raise ValueError(
                f"leave-one-out takes every row as a positive, but the data has the task "
                f"{columns.targets[0].name!r}; remove it from the columns and keep only the "
                "rows of positives, or choose another split"
            )
        if columns.time is None and not columns.chronological:
            print(
                "data      leave_one_out: the data names no time column, so the rows of a user are "
                "in order of the file; name one under `time`, or write `chronological: true`",
                flush=True,
            )
        users, _ = pd.factorize(frame[columns.user])
        items, _ = pd.factorize(frame[columns.item])
        order = np.lexsort((columns.times(frame), users))  # stable
        second, last = _last_two(users[order], items[order])
        if not len(last):
            raise ValueError(
                "leave-one-out: no user has three rows, the last two of different items; choose "
                "another split"
            )
        edges = np.zeros(len(frame) + 1, np.int64)  # +1 where held-out rows begin, -1 behind them
        edges[second], edges[last + 1] = 1, -1
        train = np.ones(len(frame), bool)
        train[order[edges.cumsum()[:-1] > 0]] = False
        if columns.time is not None:
            for held in (order[second], order[last]):
                train &= ~_same_event(users, items, columns.times(frame), held)
        validation, test = (
            ranking_lists(frame, order[at], columns, self.candidates, generator)
            for at in (second, last)
        )
        positives = frame[train]
        return Parts(Part(positives, np.ones(len(positives), np.float32)), validation, test)


def _last_two(users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last rows (Q,) of another item than the last, and the last rows (Q,), of the users who
    have a row before both; `users` (N,) is sorted.
    """
    ends = np.bincount(users).cumsum()
    first, last = np.r_[0, ends[:-1]], ends - 1
    other = np.where(items == items[last[users]], -1, np.arange(len(users)))
    second = np.maximum.reduceat(other, first)
    enough = second > first
    return second[enough], last[enough]


def _same_event(
    users: np.ndarray, items: np.ndarray, times: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """(N,) bool: whether a row has the user, item and time of one of `held`, one row a user."""
    row = np.full(users.max() + 1, -1)
    row[users[held]] = held
    own = row[users]
    return (own >= 0) & (items == items[own]) & (times == times[own])


def _pointwise(frame: pd.DataFrame, columns: Columns, rows: list[np.ndarray]) -> Parts:
    if columns.targets == (Target("label"),) and columns.label is None:
        raise ValueError(
            "this split needs a label or a rating column; name one, or choose leave_one_out"
        )
    for name, chosen in zip(Parts._fields, rows, strict=True):
        if not len(chosen):
            raise ValueError(f"the {name} part of {len(frame)} rows is empty; change the split")
    frames = [frame.iloc[chosen] for chosen in rows]
    return Parts(*(Part(part, _labels(part, columns)) for part in frames))


def _labels(frame: pd.DataFrame, columns: Columns) -> np.ndarray:
    """(N, K): the tasks of the rows; to be retrieved are rows of label 1 or, without one, all."""
    labels = np.ones((len(frame), len(columns.targets)), np.float32)
    for task, target in enumerate(columns.targets):
        name = columns.label if target.kind == "retrieval" else target.name
        if name is not None:
            labels[:, task] = frame[name]
    return labels

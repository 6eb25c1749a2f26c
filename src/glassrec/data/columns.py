"""Raw rows: which column plays which role, and the parts that the rows are divided into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from glassrec.data.schema import Target
from glassrec.data.text_file import Origin
from glassrec.spelling import one_of


@dataclass(frozen=True)
class Columns:
    """The roles of the columns of a frame; `Table` shows them as a YAML file.

    Where `label` (0 or 1) and `rating` are both there, they are two tasks. `retrieval` makes a task
    of finding a row's item among all items; beside a label, only rows of label 1 are to be found.

    Fields are `user`, `item` and `categorical`, in this order. The columns of `item_side`
    come with a sampled item; all others describe the user or the moment, and stay as they are.
    `log` columns become log(1 + x), negative ones clipped at 0. `several` may map columns to
    another separator of their values than `|`. The proofs of pruning for every possible input hold
    within `ranges`, in raw units, whose ends may be infinite.
    """

    label: str | None = None
    rating: str | None = None
    retrieval: bool = False
    dense: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    user: str | None = None
    item: str | None = None
    item_side: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    several: tuple[str, ...] | Mapping[str, str] = ()
    time: str | None = None
    chronological: bool = False
    split: str | None = None
    missing_ok: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    item_name: str | None = None

    def __post_init__(self) -> None:
        roles = [*self.fields, *self.dense, *filter(None, (self.label, self.rating, self.split))]
        if twice := [name for name, count in Counter(roles).items() if count > 1]:
            raise ValueError(f"a column has one role; named twice: {', '.join(twice)}")
        if not self.fields and not self.dense:
            raise ValueError("no column to learn from; name some under dense or categorical")
        if self.item_side and self.item is None:
            raise ValueError("item_side needs an item column; name one under item")
        if self.item_name and self.item is None:
            raise ValueError("item_name needs an item column; name one under item")
        if self.time and self.chronological:
            raise ValueError(f"chronological: {self.time!r} orders the rows; leave one of them out")
        if self.retrieval and not (self.user and self.item):
            raise ValueError("retrieval needs a user and an item column; name both")
        for role, names, known in (
            ("item_side", self.item_side, (*self.categorical, *self.dense)),
            ("context", self.context, (*self.categorical, *self.dense)),
            ("several", tuple(self.several), self.categorical),
            ("missing_ok", self.missing_ok, self.dense),
            ("log", self.log, self.dense),
            ("ranges", tuple(self.ranges), self.dense),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"{role}: no such column {name!r}{one_of(name, known)}")
        for name in self.context:
            if name in self.item_side:
                raise ValueError(
                    f"{name} is under item_side and under context; a column describes the item or "
                    "the moment"
                )
        for name, separator in self.value_separators.items():
            if not separator:
                raise ValueError(f"several: {name} has the separator ''; name a character")
        for name, (low, high) in self.ranges.items():
            if not low <= high:
                raise ValueError(f"ranges: {name} is [{low}, {high}]; write the lower end first")

    @property
    def targets(self) -> tuple[Target, ...]:
        """The tasks; where nothing is named, every row is a positive."""
        found = [
            *([Target(self.label)] if self.label else []),
            *([Target(self.rating, "rating")] if self.rating else []),
            *([Target("retrieval", "retrieval")] if self.retrieval else []),
        ]
        return tuple(found) or (Target("label"),)

    @property
    def fields(self) -> tuple[str, ...]:
        """The categorical columns, user and item first."""
        return (*filter(None, (self.user, self.item)), *self.categorical)

    @property
    def value_separators(self) -> Mapping[str, str]:
        """The separator between the values of a cell, by the columns of `several`."""
        given = self.several
        return given if isinstance(given, Mapping) else dict.fromkeys(given, "|")

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns that hold numbers: the dense ones and the rating."""
        return (*self.dense, *filter(None, (self.rating,)))

    @property
    def item_fields(self) -> tuple[str, ...]:
        """The fields that a sampled item brings along, the item itself first."""
        side = (name for name in self.item_side if name in self.categorical)
        return (*filter(None, (self.item,)), *side)

    @property
    def item_dense(self) -> tuple[str, ...]:
        """The dense columns that a sampled item brings along."""
        return tuple(name for name in self.item_side if name in self.dense)

    def times(self, frame: pd.DataFrame) -> np.ndarray:
        """(N,) the time of each row; all equal without a time column."""
        return np.zeros(len(frame)) if self.time is None else frame[self.time].to_numpy()

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that makes tensors, or orders or divides the rows."""
        others = (self.label, self.rating, self.time, self.split)
        return tuple(dict.fromkeys([*self.fields, *self.dense, *filter(None, others)]))

    @property
    def stored(self) -> tuple[str, ...]:
        """Every column that must exist: `all`, and the names of items."""
        return tuple(dict.fromkeys([*self.all, *filter(None, (self.item_name,))]))


class Part(NamedTuple):
    """Raw rows for one purpose."""

    frame: pd.DataFrame
    labels: np.ndarray
    """(N, K): a column a task; or (N,) where there is one."""
    query: np.ndarray | None = None
    """(N,) int64, non-decreasing: the ranking list of each row."""


def happened(part: Part) -> pd.DataFrame:
    """The rows without drawn candidates: of a ranking list, one row happened."""
    if part.query is None:
        return part.frame
    return part.frame[part.labels.reshape(len(part.frame), -1)[:, 0] == 1]


class Parts(NamedTuple):
    """The three parts of a source. Ranked ones train on positives only."""

    train: Part
    validation: Part
    test: Part


def check_names(wanted: Collection[str], names: list[str], source: str) -> None:
    """ValueError if `names` has a duplicate among `wanted`, or lacks one of them."""
    for name in wanted:
        if name not in names:
            raise ValueError(f"{source}: no column {name!r}{one_of(name, names)}")
        if names.count(name) > 1:
            raise ValueError(f"{source}: {names.count(name)} columns are called {name!r}; rename")


def check_values(frame: pd.DataFrame, columns: Columns, origin: Origin) -> None:
    """ValueError at the first label that is neither 0 nor 1, or the first number that is infinite,
    missing where that is not allowed, or outside the range that is declared for its column.
    """
    if columns.label is not None:
        labels = frame[columns.label]
        origin.refuse_first(labels, ~labels.isin((0, 1)).to_numpy(), "; a label must be 0 or 1")
    for name in columns.numbers:
        values = frame[name].to_numpy()
        wrong = np.isinf(values) if name in columns.missing_ok else ~np.isfinite(values)
        advice = f", or, if it is missing, list {name!r} under missing_ok"
        reason = ", not a finite number; correct the value" + advice * (name in columns.dense)
        origin.refuse_first(frame[name], wrong, reason)
    for name, (low, high) in columns.ranges.items():
        wrong = ((frame[name] < low) | (frame[name] > high)).to_numpy()
        reason = f", outside its range [{low}, {high}]; correct the value, or declare a wider "
        origin.refuse_first(frame[name], wrong, f"{reason}range for {name!r} under ranges")

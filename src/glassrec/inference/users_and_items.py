"""The users and the items that a run keeps, in raw values, for look-ups without its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd

from glassrec.data.encoding import Encoder
from glassrec.data.events import step_names
from glassrec.data.raw_tables import DISPLAY_NAME, ITEM, TIME, USER
from glassrec.data.text_file import Origin
from glassrec.spelling import brief


@dataclass(frozen=True)
class Items:
    """All n items of the log that a run was trained on.

    Attributes:
        values: (n,) the raw values. The first `known` ones are those that the model knows, in the
            order of their ids: `values[i]` has the id i + 1 in its field.
        names: (n,) what people call them; the value as text where nothing else is known.
        side: (n rows) the raw columns that follow from the item, without the item.
        known: how many items the model knows.
    """

    values: pd.Index
    names: np.ndarray
    side: pd.DataFrame
    known: int

    @classmethod
    def from_table(cls, frame: pd.DataFrame, encoder: Encoder) -> Self:
        """From the stored catalogue, see `RawTables`."""
        side = frame.iloc[:, 3:].set_axis([*encoder.columns.item_side], axis=1)
        known = len(encoder.vocabularies[encoder.columns.item or ""].values)
        return cls(
            plain_index(frame[ITEM]),
            frame[DISPLAY_NAME].to_numpy(object),
            side,
            known,
        )

    def __len__(self) -> int:
        return len(self.values)

    def places(self, values: pd.Series | pd.Index) -> np.ndarray:
        """(N,) the place of each raw value among the items; -1 where the log has none such."""
        return self.values.get_indexer(plain_index(values))

    def names_of(self, values: pd.Series | pd.Index) -> np.ndarray:
        """(N,) the display names of raw values; unknown ones are shown as they are."""
        at = self.places(values)
        own = plain_index(values).astype(str).to_numpy(object)
        return np.where(at >= 0, self.names[at], own)

    def side_of(self, values: pd.Series, names: Sequence[str], place: Origin) -> pd.DataFrame:
        """(N rows) the columns `names` of the side of raw items (N,), which come from `place`.

        Raises:
            ValueError: there is no such item.
        """
        at = self.places(values)
        if names and (at < 0).any():
            row = int((at < 0).argmax())
            raise ValueError(
                f"{place.at(row)}: the catalogue has no item {values.iloc[row]!r}; add the "
                f"columns {brief(names)} to the file, or remove the line"
            )
        return self.side[[*names]].take(at).reset_index(drop=True)


@dataclass(frozen=True)
class Interactions:
    """All rows of the log, see `RawTables`: those of a user lie together, oldest first."""

    frame: pd.DataFrame

    @cached_property
    def starts(self) -> np.ndarray:
        """(U + 1,) where the rows of each user begin; the last entry is the number of rows."""
        codes, _ = pd.factorize(self.frame[USER])
        return np.r_[np.flatnonzero(np.diff(codes, prepend=-1)), len(codes)]

    @cached_property
    def users(self) -> pd.Index:
        """(U,) the users, in the order of `starts`."""
        return plain_index(self.frame[USER].iloc[self.starts[:-1]])

    @property
    def has_dates(self) -> bool:
        """Whether times were written as dates; else they are numbers, or there are none."""
        return TIME in self.frame and isinstance(self.frame[TIME].dtype, pd.DatetimeTZDtype)

    def histories(
        self, users: pd.Series | pd.Index, times: pd.Series | None, length: int
    ) -> pd.DataFrame:
        """The last items of users before a time, as the columns `step_names(length)`.

        Args:
            users: (N,) raw values; unknown users have no history.
            times: (N,) numbers or dates, as the log has them: only strictly earlier rows count.
                None, or a log without times: all rows count.
            length: T.

        Returns:
            (N rows) T categorical columns of raw items, newest last, missing where there are fewer.
        """
        at = self.users.get_indexer(plain_index(users))
        first, stop = self.starts[at], self.starts[np.where(at < 0, at, at + 1)]
        if times is not None and TIME in self.frame:
            keys, moments = self._by_time
            wanted = at * (len(moments) + 1) + moments.searchsorted(_as_numbers(times))
            stop = np.searchsorted(keys, wanted)
        places = stop[:, None] + np.arange(-length, 0)
        there = (places >= first[:, None]) & (at >= 0)[:, None]
        codes = np.where(there, self._items.codes[np.where(there, places, 0)], -1)
        kind = self._items.dtype
        steps = [pd.Categorical.from_codes(each, dtype=kind) for each in codes.T]
        return pd.DataFrame(dict(zip(step_names(length), steps, strict=True)))

    @cached_property
    def _items(self) -> pd.Categorical:
        """The item of each row."""
        return pd.Categorical(self.frame[ITEM])

    @cached_property
    def _by_time(self) -> tuple[np.ndarray, np.ndarray]:
        """A key of each row that ascends by user and time, and all distinct times, ascending."""
        moments, ranks = np.unique(_as_numbers(self.frame[TIME]), return_inverse=True)
        blocks = np.repeat(np.arange(len(self.users)), np.diff(self.starts))
        return blocks * (len(moments) + 1) + ranks, moments


@dataclass(frozen=True)
class LastRows:
    """The raw columns of each user's last row that do not follow from the item."""

    users: pd.Index
    context: pd.DataFrame
    """a row for each of `users`"""

    @classmethod
    def from_table(cls, frame: pd.DataFrame) -> Self:
        """From the stored table, see `RawTables`."""
        # A column of the name of the first one has got an underscore, see `raw_tables`.
        context = frame.iloc[:, 1:].rename(columns={f"{USER}_": USER})
        return cls(plain_index(frame[USER]), context)


def plain_index(values: pd.Series | pd.Index) -> pd.Index:
    """The values themselves, where they are stored as categories."""
    found = pd.Index(values)
    return found.astype(found.categories.dtype) if isinstance(found, pd.CategoricalIndex) else found


def _as_numbers(times: pd.Series) -> np.ndarray:
    """(N,) times that compare: dates in nanoseconds, numbers as they are."""
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        return times.dt.as_unit("ns").astype("int64").to_numpy()
    return times.to_numpy(np.float64)

"""Whether columns describe the item or the moment, checked on the rows.

Negatives, candidates and queries keep all columns that are not of the item's side. One that the
item determines would reveal which item the row really had.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from glassrec.data.columns import Columns
from glassrec.data.text_file import Origin

LIMIT, MAX_SAMPLE, RIVALS = 0.15, 4000, 99
"""The share of rows in which a column may rank its item in the first tenth (.10 is chance), on how
many rows it is measured, and among how many other items."""

MAX_ROWS, MIN_ITEMS = 200_000, 100
"""Rows of a log, whole items at a time, and items of many rows that are compared."""

BEYOND_CHANCE = 3.3
"""Standard errors by which a share must exceed `LIMIT`: one column in 2,000 does so by accident."""

EXPECTED = 7
"""Rows that would differ by accident, from which on it is evidence that none does: e⁻⁷ = .001."""

OF_THE_USER = 0.95
"""Agreement of a user's rows beyond chance from which on a column describes the user."""


class Pairs(NamedTuple):
    """One row for each user and item, so that a user's own repeats count as no evidence."""

    rows: np.ndarray
    """(M,) positions in the frame"""
    users: np.ndarray
    """(M,) codes"""
    items: np.ndarray
    """(M,) codes"""
    counts: np.ndarray
    """(items,) rows of each item"""

    @classmethod
    def from_log(cls, frame: pd.DataFrame, columns: Columns) -> Pairs:
        """The first row of each user and item; of a large log, all such rows of random items."""
        items, names = pd.factorize(frame[columns.item])
        rows = np.arange(len(frame))
        if len(frame) > MAX_ROWS:
            order = np.random.default_rng(0).permutation(len(names))
            enough = np.bincount(items)[order].cumsum() <= MAX_ROWS
            enough[:MIN_ITEMS] = True
            rows = np.flatnonzero(np.isin(items, order[enough]))
        users, _ = pd.factorize(frame[columns.user].array[rows])
        items, kept = pd.factorize(items[rows])
        first = ~pd.Series(users * len(kept) + items).duplicated().to_numpy()
        items = items[first]
        return cls(rows[first], users[first], items, np.bincount(items))


def check_item_side(frame: pd.DataFrame, columns: Columns, origin: Origin) -> None:
    """ValueError at the first row of a log in which an item has another value than before."""
    if not columns.item_side:
        return
    items, names = pd.factorize(frame[columns.item])
    first = _first_rows(items)
    for name in columns.item_side:
        values, known = pd.factorize(frame[name], use_na_sentinel=False)
        wrong = values != values[first[items]]
        if wrong.any():
            row = int(wrong.argmax())
            other = int(first[items[row]])
            one, two = (_shown(known[values[at]]) for at in (row, other))
            raise ValueError(
                f"{origin.at(row)}: {name} is {one} for {columns.item} "
                f"{_shown(names[items[row]])}, but {two} in {origin.at(other)}; under item_side an "
                "item has one value; correct the rows, or list the column under context instead, "
                "if it describes the moment"
            )


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def check_undeclared(train: pd.DataFrame, columns: Columns) -> None:
    """ValueError if the item determines a column that is neither under item_side nor context.

    That is so if it never differs between rows of an item, where it would by chance; or if, by that
    column alone, an item's other rows place it in the first tenth of `RIVALS` others more often
    than `LIMIT`. Columns that describe the user are exempt.
    """
    known = {columns.user, columns.item, *columns.item_side, *columns.context}
    names = [name for name in (*columns.dense, *columns.fields) if name not in known]
    if not names:
        return
    pairs = Pairs.from_log(train, columns)
    for name in names:
        found = dependence(train[name], pairs)
        if found is not None:
            raise ValueError(
                f"{name} follows from {columns.item}: {found}. Negatives, candidates and queries "
                f"would keep it, and so reveal which {columns.item} is meant; list {name} under "
                "item_side, or under context if it describes the moment, or leave it out"
            )


class Dependence(NamedTuple):
    """How a column depends on the item."""

    exact: bool
    """whether it is the same in all rows of an item"""
    share: float
    """of rows whose item it places in the first tenth of others; .10 is chance"""

    def __str__(self) -> str:
        if self.exact:
            return "it is the same in all training rows of an item"
        return (
            f"it alone places a row's item in the first tenth of others in {self.share:.0%} of "
            "training rows, where chance is 10%"
        )


def dependence(column: pd.Series, pairs: Pairs) -> Dependence | None:
    """The dependence of a column on the item; None if there is no evidence of any above `LIMIT`, or
    if the column describes the user.
    """
    values, known = pd.factorize(column.array[pairs.rows], use_na_sentinel=False)
    repeated = pairs.counts[pairs.items] > 1
    if len(known) == 1 or (pairs.counts > 1).sum() < 3 or _of_the_user(values, pairs):
        return None
    chance = _chance(values)
    first = _first_rows(pairs.items)[pairs.items]
    beyond = len(values) - len(pairs.counts)
    exact = beyond * (1 - chance) >= EXPECTED and bool((values == values[first]).all())
    chosen = np.flatnonzero(repeated)
    if len(chosen) > MAX_SAMPLE:
        chosen = np.random.default_rng(0).choice(chosen, MAX_SAMPLE, replace=False)
    if len(chosen) < 5:
        return None
    share = share_in_first_tenth(values, column, pairs, chosen)
    limit = LIMIT + BEYOND_CHANCE * np.sqrt(LIMIT * (1 - LIMIT) / len(chosen))
    return Dependence(exact, share) if exact or share > limit else None


def share_in_first_tenth(
    values: np.ndarray, column: pd.Series, pairs: Pairs, chosen: np.ndarray
) -> float:
    """The mean over `chosen` rows of the chance that the column places their item so.

    Items are ordered by how common the row's value is in their other rows, and, for numbers, by
    how near the mean rank of their other rows is; the better order counts. Rivals are the items of
    random rows, so that popular items gain nothing.
    """
    random = np.random.default_rng(1)
    rivals = pairs.items[random.integers(len(pairs.items), size=(len(chosen), RIVALS))]
    own = pairs.items[chosen]
    listed = np.column_stack([own, rivals])
    there = listed != own[:, None]
    there[:, 0] = True
    scores = [_commonness(values, pairs, chosen, listed)]
    if pd.api.types.is_numeric_dtype(column.dtype):
        ranks = pd.Series(column.array[pairs.rows]).rank(na_option="top").to_numpy()
        scores.append(_nearness(ranks, pairs, chosen, listed))
    return max(_first_tenth(score, there) for score in scores)


def _commonness(
    values: np.ndarray, pairs: Pairs, chosen: np.ndarray, listed: np.ndarray
) -> np.ndarray:
    """(Q, 1 + R) the share of each item's rows that have the value of the row, without itself."""
    size = values.max() + 1
    keys, counts = np.unique(pairs.items * size + values, return_counts=True)
    wanted = listed * size + values[chosen, None]
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    common = np.where(keys[at] == wanted, counts[at], 0).astype(float)
    rows = pairs.counts[listed].astype(float)
    common[:, 0] -= 1
    rows[:, 0] -= 1
    return common / rows


def _nearness(
    ranks: np.ndarray, pairs: Pairs, chosen: np.ndarray, listed: np.ndarray
) -> np.ndarray:
    """(Q, 1 + R) minus the distance between the row's rank and the mean of each item's rows."""
    total = np.bincount(pairs.items, ranks)[listed]
    rows = pairs.counts[listed].astype(float)
    total[:, 0] -= ranks[chosen]
    rows[:, 0] -= 1
    return -np.abs(ranks[chosen, None] - total / rows)


def _first_tenth(scores: np.ndarray, there: np.ndarray) -> float:
    """The mean chance that the first of each list is in its first tenth, ties in random order."""
    own = scores[:, :1]
    better = ((scores > own) & there).sum(1)
    tied = ((scores == own) & there).sum(1)
    return float(np.clip((there.sum(1) / 10 - better) / tied, 0, 1).mean())


def _of_the_user(values: np.ndarray, pairs: Pairs) -> bool:
    """Whether rows of one user, which are of different items, agree beyond chance."""
    first = _first_rows(pairs.users)
    later = np.ones(len(values), bool)
    later[first] = False
    if not later.any():
        return False
    agree = float((values == values[first[pairs.users]])[later].mean())
    chance = _chance(values)
    return agree - chance >= OF_THE_USER * (1 - chance)


def _chance(values: np.ndarray) -> float:
    return float(np.square(np.bincount(values) / len(values)).sum())


def _first_rows(codes: np.ndarray) -> np.ndarray:
    """The position of the first row of each code; codes are numbered as they appear, or sorted."""
    first = np.full(codes.max() + 1, len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    return first

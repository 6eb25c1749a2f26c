"""The items that training knows; negatives, and ranking lists of a held-out row and candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.columns import Columns, Part
from glassrec.data.schema import Schema


@dataclass(frozen=True)
class Catalogue:
    """All items of the training rows, numbered in the order of their global ids.

    Attributes:
        user: the column of `Batch.ids` that holds the user.
        columns: the columns of `Batch.ids` that follow from the item; the first one is the item.
        rows: (n, len(columns)) int64: the entries of these columns for each item.
        counts: (n,) int64: how many training rows each item has.
        chosen: (P,) int64, sorted and distinct: the items that users chose in training, as keys
            `user * n + item`, where user is a global id and item a number below n.
        dense_columns: the columns of `Batch.dense` that follow from the item.
        dense: (n, len(dense_columns)) float32: the entries of these columns for each item.
    """

    user: int
    columns: tuple[int, ...]
    rows: Tensor
    counts: Tensor
    chosen: Tensor
    dense_columns: tuple[int, ...]
    dense: Tensor

    @classmethod
    def from_ids(cls, batch: Batch, schema: Schema) -> Catalogue:
        """The catalogue of training rows; an item's side columns are those of its first row."""
        assert schema.user is not None
        assert schema.item is not None
        ids, user = batch.ids, schema.id_columns(schema.user)[0]
        columns = tuple(c for name in schema.item_side for c in schema.id_columns(name))
        items, index, counts = ids[:, columns[0]].unique(return_inverse=True, return_counts=True)
        first = torch.full_like(items, len(ids)).scatter_reduce_(
            0, index, torch.arange(len(ids)), "amin"
        )
        keys = (ids[:, user] * len(items) + index).unique()
        dense = tuple(schema.dense.index(name) for name in schema.item_dense)
        side = batch.dense[first][:, dense]
        return cls(user, columns, ids[first][:, columns], counts, keys, dense, side)

    def __len__(self) -> int:
        return len(self.counts)

    def insert(self, batch: Batch, start: int, items: Tensor) -> None:
        """Put items (M,), given by their numbers, into the rows of `batch` from `start` on, with
        all columns that follow from them.
        """
        for column, ids in zip(self.columns, self.rows.T, strict=True):
            batch.ids[start:, column] = ids[items]
        for column, values in zip(self.dense_columns, self.dense.T, strict=True):
            batch.dense[start:, column] = values[items]

    def numbers(self, items: Tensor) -> Tensor:
        """The number of each item, given as global ids; −1 for one that training does not know."""
        known = self.rows[:, 0].contiguous()
        at = torch.searchsorted(known, items.contiguous()).clamp_(max=len(self) - 1)
        return at.where(known[at] == items, -1)


@dataclass(frozen=True)
class Negatives:
    """Draws negatives for implicit feedback, uniformly from the items that training knows.

    Attributes:
        catalogue: the items, and the training positives.
        per_positive: how many negatives a positive gets.

    Raises:
        ValueError: a user has every item, so that no negative exists.
    """

    catalogue: Catalogue
    per_positive: int

    def __post_init__(self) -> None:
        items = len(self.catalogue)
        users, counts = torch.unique_consecutive(self.catalogue.chosen // items, return_counts=True)
        full = users[counts >= items]
        if full.numel():
            raise ValueError(
                f"the user of global id {int(full[0])} has every one of the {items} items, so "
                "no negative exists for them; remove the user or add items"
            )

    def augment(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The rows of `batch` (B), then `per_positive` negatives of each (target 0).

        A negative is its positive's row with another item in it. It never hits a known *training*
        positive of the user. It may hit a held-out one, which training cannot know.
        """
        rows = batch.rows
        batch = Batch(*(column.repeat(1 + self.per_positive, 1) for column in batch))
        items = self.draw(batch.ids[rows:, self.catalogue.user], generator)
        self.catalogue.insert(batch, rows, items)
        batch.targets[rows:] = 0
        return batch

    def draw(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """The number of an item (M,) for each of `users` (M,), redrawn until none is a positive."""
        count, positives = len(self.catalogue), self.catalogue.chosen
        base = users * count
        items = torch.randint(count, base.shape, generator=generator)
        hits = _among(positives, base + items).nonzero().squeeze(1)
        while hits.numel():
            items[hits] = torch.randint(count, hits.shape, generator=generator)
            hits = hits[_among(positives, base[hits] + items[hits])]
        return items


def ranking_lists(
    log: pd.DataFrame, held: np.ndarray, columns: Columns, count: int, generator: torch.Generator
) -> Part:
    """A list for each held-out row: the row itself (label 1), then `count` candidates (label 0).

    Candidates are distinct items that the user chose in no row of `log`, which holds every known
    positive, of all splits. They bring the columns of their side along; all other columns are those
    of the held-out row, whose position in `log` is in `held` (Q,).

    Raises:
        ValueError: a user has fewer than `count` items left.
    """
    users, _ = pd.factorize(log[columns.user])
    items, values = pd.factorize(log[columns.item])  # numbered as they appear
    first = np.flatnonzero(~log[columns.item].duplicated())
    positives = torch.from_numpy(users * len(values) + items).unique()
    candidates = draw_candidates(
        positives, torch.from_numpy(users[held]), len(values), count, generator
    )
    shown = np.column_stack([held, first[candidates.numpy()]]).ravel()
    side = (*columns.item_fields, *columns.item_dense)
    frame = log.iloc[np.repeat(held, count + 1)].assign(
        **{name: log[name].array.take(shown) for name in side}
    )
    labels = np.zeros((len(held), count + 1), np.float32)
    labels[:, 0] = 1
    return Part(frame, labels.ravel(), np.repeat(np.arange(len(held)), count + 1))


def draw_candidates(
    positives: Tensor, users: Tensor, items: int, count: int, generator: torch.Generator
) -> Tensor:
    """For each query, C = `count` distinct items that its user never chose.

    `positives` (P,) int64, sorted and distinct, are keys `user * items + item` of *all* splits;
    `users` (Q,) int64 the users of the queries.

    Returns:
        (Q, C) int64, ascending in each row; every set of C such items is equally likely.

    Raises:
        ValueError: a user has fewer than `count` items left.
    """
    start, stop = (torch.searchsorted(positives, (users + more) * items) for more in (0, 1))
    left = items - (stop - start)
    if len(left) and int(left.min()) < count:
        raise ValueError(
            f"data.split.candidates: {count} is not allowed; for one user there are only "
            f"{int(left.min())} of {items} items left to sample; ask for fewer candidates, or "
            "leave out users of so many items"
        )
    drawn = torch.randint(items, (len(users), count), generator=generator)
    todo = torch.arange(len(users))
    while todo.numel():
        rows = drawn[todo].sort(dim=1).values
        wrong = _among(positives, users[todo, None] * items + rows)
        wrong[:, 1:] |= rows[:, 1:] == rows[:, :-1]
        rows[wrong] = torch.randint(items, (int(wrong.sum()),), generator=generator)
        drawn[todo] = rows
        todo = todo[wrong.any(dim=1)]
    return drawn


def _among(keys: Tensor, values: Tensor) -> Tensor:
    """Which `values` are among the sorted `keys`, of which there is at least one."""
    return keys[torch.searchsorted(keys, values).clamp_(max=len(keys) - 1)] == values

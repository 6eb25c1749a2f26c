"""The items that training knows, and which of them each user chose there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema


@dataclass(frozen=True)
class Catalogue:
    """All items of the training rows, numbered in the order of their joint rows.

    Attributes:
        user: the column of `Batch.ids` that holds the user.
        columns: the columns of `Batch.ids` that follow from the item; the first one is the item.
        rows: (n, len(columns)) int64: what stands in them for each item.
        dense_columns: the columns of `Batch.dense` that follow from the item.
        dense: (n, len(dense_columns)) float32: what stands in them for each item.
        counts: (n,) int64: how many training rows each item has.
        chosen: (P,) int64, sorted and distinct: what users chose in training, as keys
            `user * n + item`, where user is a joint row and item a number below n.
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
        assert schema.user is not None, "who must be known"
        assert schema.item is not None, "what must be known"
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
        for column, joint in zip(self.columns, self.rows.T, strict=True):
            batch.ids[start:, column] = joint[items]
        for column, values in zip(self.dense_columns, self.dense.T, strict=True):
            batch.dense[start:, column] = values[items]

    def numbers(self, items: Tensor) -> Tensor:
        """The number of each item, given as joint rows; −1 for one that training does not know."""
        known = self.rows[:, 0].contiguous()
        at = torch.searchsorted(known, items.contiguous()).clamp_(max=len(self) - 1)
        return at.where(known[at] == items, -1)

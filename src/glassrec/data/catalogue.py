"""The items that training knows, and which of them each user chose there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glassrec.data.schema import Schema


@dataclass(frozen=True)
class Catalogue:
    """All items of the training rows, numbered in the order of their joint rows.

    Attributes:
        user: the column of `Batch.ids` that holds the user.
        columns: the columns of `Batch.ids` that follow from the item; the first one is the item.
        rows: (n, len(columns)) int64: what stands in them for each item.
        counts: (n,) int64: how many training rows each item has.
        chosen: (P,) int64, sorted and distinct: what users chose in training, as keys
            `user * n + item`, where user is a joint row and item a number below n.
    """

    user: int
    columns: tuple[int, ...]
    rows: Tensor
    counts: Tensor
    chosen: Tensor

    @classmethod
    def of(cls, ids: Tensor, schema: Schema) -> Catalogue:
        """The catalogue of training rows `ids`; an item's side columns are those of its first."""
        assert schema.user is not None, "who must be known"
        assert schema.item is not None, "what must be known"
        user = schema.columns(schema.user)[0]
        columns = tuple(c for name in schema.item_side for c in schema.columns(name))
        items, index, counts = ids[:, columns[0]].unique(return_inverse=True, return_counts=True)
        first = torch.full_like(items, len(ids)).scatter_reduce_(
            0, index, torch.arange(len(ids)), "amin"
        )
        keys = (ids[:, user] * len(items) + index).unique()
        return cls(user, columns, ids[first][:, columns], counts, keys)

    def __len__(self) -> int:
        return len(self.counts)

    def numbers(self, items: Tensor) -> Tensor:
        """The number of each item, given as joint rows; −1 for one that training does not know."""
        known = self.rows[:, 0].contiguous()
        at = torch.searchsorted(known, items.contiguous()).clamp_(max=len(self) - 1)
        return at.where(known[at] == items, -1)

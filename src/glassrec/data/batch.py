"""The one shape in which rows travel, from a source's whole tensors to a training step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from glassrec.progress import with_progress


class Batch(NamedTuple):
    """N rows of a dataset; a whole split and a training step have the same shape."""

    dense: Tensor
    """(N, D) float32: numbers, already scaled."""
    ids: Tensor
    """(N, F) int64: one column a categorical field, as rows of the joint table."""
    history: Tensor
    """(N, T) int64: an ordered list of items as joint rows, 0 = padding; T may be 0."""
    targets: Tensor
    """(N, K) float32: one column a task."""

    @property
    def rows(self) -> int:
        """The number of rows N (`len` of a named tuple counts its four columns)."""
        return self.ids.shape[0]

    def select(self, index: Tensor) -> Batch:
        """The rows at `index` (M,), copied."""
        return Batch(*(column.index_select(0, index) for column in self))

    def slice(self, start: int, stop: int) -> Batch:
        """The rows from `start` to `stop`, as views."""
        return Batch(*(column[start:stop] for column in self))

    def chunks(self, size: int) -> Iterator[Batch]:
        """The rows in order, `size` at a time, as views."""
        for start in range(0, self.rows, size):
            yield self.slice(start, start + size)

    def to(self, device: torch.device | str) -> Batch:
        """The same rows on `device`."""
        return Batch(*(column.to(device) for column in self))


def track_batches(batches: Iterable[Batch], total: int, unit: str = "rows") -> Iterator[Batch]:
    """The batches, of which there are `total` rows: long work on them tells how far it is."""
    return with_progress(((batch.rows, batch) for batch in batches), total, unit=unit)


def join(batches: list[Batch]) -> Batch:
    """The rows of several batches, one after the other."""
    return Batch(*(torch.cat(columns) for columns in zip(*batches, strict=True)))

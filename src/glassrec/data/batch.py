"""Rows as tensors: of a training step, of a split and of a whole dataset, in one shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from glassrec.progress import with_progress


class Batch(NamedTuple):
    """N rows of a dataset; a whole split and a training step have the same shape.

    Examples:
        >>> import torch
        >>> ids = torch.tensor([[1, 4], [2, 5], [1, 6]])
        >>> batch = Batch(torch.zeros(3, 2), ids, torch.zeros(3, 0).long(), torch.ones(3, 1))
        >>> batch.rows, batch.select(torch.tensor([2, 0])).ids.tolist()
        (3, [[1, 6], [1, 4]])
        >>> [chunk.rows for chunk in batch.chunks(2)]
        [2, 1]
    """

    dense: Tensor
    """(N, D) float32: numbers, already scaled."""
    ids: Tensor
    """(N, F) int64: global ids, see `Schema`; a column for each value of a field. Of a whole split
    from a store int32, mapped; `select`, `slice`, `chunks` and `to` give int64."""
    history: Tensor
    """(N, T) int64, as `ids`: an ordered list of items as global ids, 0 = padding; T may be 0."""
    targets: Tensor
    """(N, K) float32: a column for each task."""

    @property
    def rows(self) -> int:
        """The number of rows N (`len` of a named tuple counts its four columns)."""
        return self.ids.shape[0]

    def select(self, index: Tensor) -> Batch:
        """The rows at `index` (M,), copied."""
        return Batch(*(_wide(column.index_select(0, index)) for column in self))

    def slice(self, start: int, stop: int) -> Batch:
        """The rows from `start` to `stop`, as views where they are in int64."""
        return Batch(*(_wide(column[start:stop]) for column in self))

    def chunks(self, size: int) -> Iterator[Batch]:
        """The rows in order, `size` at a time, or fewer with long histories, see `slice`."""
        size = max(1, size // max(1, self.history.shape[1] // 16))  # long histories fill the memory
        for start in range(0, self.rows, size):
            yield self.slice(start, start + size)

    def to(self, device: torch.device | str) -> Batch:
        """The same rows on `device`."""
        return Batch(*(_wide(column.to(device)) for column in self))


@dataclass(frozen=True)
class Split:
    """Rows for one purpose: training, validation or test.

    Examples:
        >>> import torch
        >>> lists = torch.tensor([0, 0, 0, 1, 1, 1])  # two held-out items, each with two candidates
        >>> targets = torch.tensor([1.0, 0, 0, 1, 0, 0])[:, None]
        >>> empty = torch.zeros(6, 0)
        >>> split = Split(Batch(empty, empty.long(), empty.long(), targets), query=lists)
        >>> split.batch.targets[split.query == 1].flatten().tolist()
        [1.0, 0.0, 0.0]

    Attributes:
        batch: the N rows.
        query: (N,) int64, non-decreasing: the ranking list of each row. Under the leave-one-out
            protocol the row of target 1 is the held-out item and the others are its candidates.
            None where rows are judged one by one.
    """

    batch: Batch
    query: Tensor | None = None


def _wide(column: Tensor) -> Tensor:
    return column.long() if column.dtype == torch.int32 else column


def rebatch(parts: Iterable[Batch], sizes: Iterable[int]) -> Iterator[Batch]:
    """The rows of all parts, in batches of these sizes; views where one part has all of them."""
    source = iter(parts)
    rest = next(source)
    for size in sizes:
        pieces = [rest.slice(0, size)]
        while (lacking := size - sum(piece.rows for piece in pieces)) > 0:
            rest = next(source)
            pieces.append(rest.slice(0, lacking))
        rest = rest.slice(pieces[-1].rows, rest.rows)
        yield pieces[0] if len(pieces) == 1 else Batch(*map(torch.cat, zip(*pieces, strict=True)))


def track_batches(batches: Iterable[Batch], total: int, unit: str = "rows") -> Iterator[Batch]:
    """The batches, of which there are `total` rows; long work on them reports its progress."""
    return with_progress(((batch.rows, batch) for batch in batches), total, unit=unit)

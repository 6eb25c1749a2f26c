"""Items that a user did not choose: sampled to train on, and to rank a held-out item against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.catalogue import Catalogue


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
                f"the user of joint row {int(full[0])} has every one of the {items} items, so "
                "no negative exists for them; remove the user or add items"
            )

    def augment(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The rows of `batch` (B), then `per_positive` negatives of each (target 0).

        A negative is its positive's row with another item in it. It never hits a known *training*
        positive of the user. It may hit a held-out one: training cannot know those.
        """
        rows = batch.rows
        batch = Batch(*(column.repeat(1 + self.per_positive, 1) for column in batch))
        items = self._draw(batch.ids[rows:, self.catalogue.user], generator)
        self.catalogue.insert(batch, rows, items)
        batch.targets[rows:] = 0
        return batch

    def _draw(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """One item (M,) for each of `users` (M,), redrawn until none is a positive."""
        count, positives = len(self.catalogue), self.catalogue.chosen
        base = users * count
        items = torch.randint(count, base.shape, generator=generator)
        hits = _among(positives, base + items).nonzero().squeeze(1)
        while hits.numel():
            items[hits] = torch.randint(count, hits.shape, generator=generator)
            hits = hits[_among(positives, base[hits] + items[hits])]
        return items


def draw_candidates(
    positives: Tensor, users: Tensor, items: int, count: int, generator: torch.Generator
) -> Tensor:
    """For each query, `count` distinct items that its user never chose, fixed by `generator`.

    Args:
        positives: (P,) int64, sorted and distinct: keys `user * items + item` of *all* splits.
        users: (Q,) int64: the user of each query.
        items: the number of items.
        count: C, how many candidates a query gets.
        generator: the source of randomness.

    Returns:
        (Q, C) int64, ascending in each row; every set of C such items is equally likely.

    Raises:
        ValueError: a user has fewer than `count` items left.
    """
    _check_enough(positives, users, items, count)
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


def _check_enough(positives: Tensor, users: Tensor, items: int, count: int) -> None:
    """ValueError if one of `users` has fewer than `count` items that are not positives."""
    start, stop = (torch.searchsorted(positives, (users + more) * items) for more in (0, 1))
    left = items - (stop - start)
    if len(left) and int(left.min()) < count:
        raise ValueError(
            f"{count} candidates asked, but a user never chose only {int(left.min())} of the "
            f"{items} items; ask for fewer candidates, or leave out users of so many items"
        )


def _among(keys: Tensor, values: Tensor) -> Tensor:
    """Which `values` are among the sorted `keys`, of which there is at least one."""
    return keys[torch.searchsorted(keys, values).clamp_(max=len(keys) - 1)] == values

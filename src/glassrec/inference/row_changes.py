"""Changes of a row's inputs, the logits after them, and the search for a small set of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.explain.masking import FeatureMask
from glassrec.inference.ranking import with_past, without_past
from glassrec.models.base import Inputs, Recommender
from glassrec.spelling import listed

SUBSETS = 2000
"""Sets of one size that are tried, at most: those of the changes that come first in the order."""

ROWS = 16384
"""Rows that pass the model at a time."""

LIMIT = 4
"""Changes, at most, by default."""


@dataclass(frozen=True)
class Counterfactual:
    """Changes of one row that do what they should.

    Attributes:
        changes: in words, `without Heat (1995)`, `city = Paris`, `age at its baseline`; none where
            the row is below the threshold as it is.
        names: the changed columns; of past items, the items.
        outcome: after the changes: the rank, the probability of a click, or the estimate.
        smallest: whether every smaller set of these kinds of changes was tried.
    """

    changes: tuple[str, ...]
    names: tuple[str, ...]
    outcome: float
    smallest: bool

    def __str__(self) -> str:
        after = f"rank {self.outcome:,}" if isinstance(self.outcome, int) else f"{self.outcome:.4g}"
        return f"{listed(self.changes) if self.changes else 'no change'}: {after}"


def in_words(found: Counterfactual | None, limit: int = LIMIT) -> str:
    """A counterfactual as text, `none with up to 4 changes` where there is none."""
    if found is None:
        return f"none with up to {limit} change{'s' if limit > 1 else ''}"
    return str(found)


@dataclass(frozen=True)
class RowChanges(ABC):
    """P possible changes of a row.

    Attributes:
        model: scores the rows.
        target: the column of its logits.
        order: the changes that may be used, most promising first.
        words: each of them in words.
        names: what each of them changes.
    """

    model: Recommender
    target: int
    order: list[int]
    words: dict[int, str]
    names: dict[int, str]

    @abstractmethod
    def __call__(self, batch: Batch, sets: Tensor) -> Tensor:
        """The logits (C, m) of a batch under C sets (C, P) bool of changes.

        The first row of the batch is the changed one; the others compete with it, beside the same
        user.
        """


@dataclass(frozen=True)
class PastItems(RowChanges):
    """Items that may be left out of a user's past, see `RowChanges`.

    Attributes:
        codes: (L,) the item of each step, oldest first; more steps than the model reads, if known.
        ids: (L,) the same as global ids.
    """

    codes: Tensor
    ids: Tensor

    @torch.no_grad()
    def __call__(self, batch: Batch, sets: Tensor) -> Tensor:
        """The steps that are left move together, as those of a user without the others."""
        length = batch.history.shape[1]
        kept = ~sets[:, self.codes]
        order = kept.int().argsort(dim=1, stable=True)
        steps = self.ids.where(kept, 0).gather(1, order)
        padding = torch.zeros(len(sets), length, dtype=torch.long)
        histories = torch.cat([padding, steps], 1)[:, -length:]
        inputs = without_past(self.model, batch)
        found = [
            self.model.task_logits(with_past(self.model, inputs, each))[:, self.target]
            for each in histories.split(1)
        ]
        return torch.stack(found)


@dataclass(frozen=True)
class ColumnChanges(RowChanges):
    """Columns that may get another value, see `RowChanges`.

    Attributes:
        features: the columns, and the steps of a history, which stay.
        own: the columns that the row does not share with those that it competes with.
        vectors: the other value of each column.
    """

    features: FeatureMask
    own: set[str]
    vectors: dict[str, Tensor]

    @torch.no_grad()
    def __call__(self, batch: Batch, sets: Tensor) -> Tensor:
        """See `RowChanges`."""
        inputs = self.model.embed(batch)
        changed = Inputs(*(part.clone() for part in inputs))
        for name, vector in self.vectors.items():
            rows = slice(0, 1) if name in self.own else slice(None)
            column_of(changed, self.model.schema, name)[rows] = vector
        both = [Inputs(*(part.unsqueeze(0) for part in each)) for each in (inputs, changed)]
        logits = torch.empty(len(sets), batch.rows)
        at_once = max(1, ROWS // batch.rows)
        for first in range(0, len(sets), at_once):
            mask = (~sets[first : first + at_once]).to(inputs.dense).unsqueeze(1)
            masked = self.features.apply(mask, *both)
            logits[first : first + at_once] = self._logits(masked, len(mask), batch.rows)
        return logits

    @torch.no_grad()
    def each(self, batch: Batch, name: str, vectors: Tensor) -> Tensor:
        """The logits (V, m) of a batch (m rows) with one column at each of V values."""
        inputs = self.model.embed(batch)
        many = Inputs(*(part.expand(len(vectors), *part.shape).clone() for part in inputs))
        flat = Inputs(*(part.flatten(0, 1) for part in many))
        rows = slice(0, 1) if name in self.own else slice(None)
        part = column_of(flat, self.model.schema, name).unflatten(0, (len(vectors), batch.rows))
        part[:, rows] = vectors.unsqueeze(1)
        return self._logits(many, len(vectors), batch.rows)

    def _logits(self, inputs: Inputs, sets: int, rows: int) -> Tensor:
        whole = (part.expand(sets, rows, *part.shape[2:]).flatten(0, 1) for part in inputs)
        return self.model.task_logits(Inputs(*whole))[:, self.target].view(sets, rows)


def column_of(inputs: Inputs, schema: Schema, name: str) -> Tensor:
    """(B,) or (B, E): the values of one column."""
    if name in schema.dense:
        return inputs.dense[:, schema.dense.index(name)]
    return inputs.fields[:, schema.field_index(name)]


# --- the search ------------------------------------------------------------------------------


def smallest_set(
    margin: Callable[[Tensor], Tensor], order: Sequence[int], size: int, limit: int
) -> tuple[tuple[int, ...], bool] | None:
    """A small set of changes whose margin is below 0, and whether all smaller ones were tried.

    Greedy first: the first of the order, the first two, ...; then all smaller sets, see `SUBSETS`.

    Args:
        margin: of sets (C, size) bool: (C,).
        order: the changes that may be used.
        size: P, of all changes.
        limit: changes, at most.
    """
    limit = min(limit, len(order))
    greedy = [tuple(order[: 1 + count]) for count in range(limit)]
    hits = [] if not limit else (margin(masks_of(greedy, size)) < 0).nonzero().flatten().tolist()
    complete = True
    for count in range(1, (1 + hits[0]) if hits else (1 + limit)):
        among = len(order)
        while comb(among, count) > SUBSETS:
            among -= 1
        sets = list(combinations(order[:among], count))
        margins = margin(masks_of(sets, size))
        if float(margins.min()) < 0:
            return sets[int(margins.argmin())], complete
        complete &= among == len(order)
    return (greedy[hits[0]], complete) if hits else None


def masks_of(sets: Sequence[tuple[int, ...]], size: int) -> Tensor:
    """(C, size) bool: C sets of changes."""
    found = torch.zeros(len(sets), size, dtype=torch.bool)
    for row, places in enumerate(sets):
        found[row, list(places)] = True
    return found

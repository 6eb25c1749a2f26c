"""Changes of rows' inputs, the logits after them, and the search for small sets of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Self

import pandas as pd
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.inference.ranking import without_past
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


def counterfactual_columns(
    found: Sequence[Counterfactual | None], limit: int = LIMIT
) -> pd.DataFrame:
    """(N rows) `counterfactual` in words, and `counterfactual_changes`, how many it has."""
    counts = [None if each is None else len(each.changes) for each in found]
    texts = [in_words(each, limit) for each in found]
    return pd.DataFrame(
        {"counterfactual": texts, "counterfactual_changes": pd.array(counts, "Int64")}
    )


@dataclass(frozen=True)
class RowChanges(ABC):
    """P possible changes of each of R rows.

    Attributes:
        model: scores the rows.
        target: the column of its logits.
        batch: (R · m rows) each row, and behind it those that it competes with, beside the same
            user.
        order: (R, P) the changes of each row, most promising first.
    """

    model: Recommender
    target: int
    batch: Batch
    order: Tensor

    @abstractmethod
    def logits(self, rows: Tensor, sets: Tensor) -> Tensor:
        """The logits (A, C, m) of some rows (A,) and their competitors, after C sets (A, C, P) bool
        of changes each.
        """

    @abstractmethod
    def described(self, row: int, at: int) -> tuple[str, str]:
        """A change of a row in words, and the name of the changed column or item."""

    @property
    def counts(self) -> Tensor:
        """(R,): so many changes are possible, the first ones of the order."""
        return torch.full((len(self.order),), self.order.shape[1])

    @property
    def width(self) -> int:
        """The number m of rows that compete, the changed one included."""
        return self.batch.rows // len(self.order)

    @cached_property
    def inputs(self) -> Inputs:
        """(R, m, ...): the embedded rows, without histories."""
        with torch.no_grad():
            flat = without_past(self.model, self.batch)
        return Inputs(*(part.unflatten(0, (-1, self.width)) for part in flat))

    def _score(self, inputs: Inputs, history: Tensor) -> Tensor:
        """(G, w): the logits of rows (G, w, ...) beside G histories (G, T) of ids, or a common one
        (1, T), which is read once.
        """
        groups, width = inputs.dense.shape[:2]
        flat = Inputs(*(part.flatten(0, 1) for part in inputs))
        past = self.model.table.history(history[:, : self.model.schema.history_length])
        many = (
            part.expand(flat.rows, *part.shape[1:])
            if len(history) == 1
            else part.repeat_interleave(width, 0)
            for part in past
        )
        logits = self.model.task_logits(Inputs(flat.dense, flat.fields, *many))
        return logits[:, self.target].unflatten(0, (groups, width))


@dataclass(frozen=True)
class PastItems(RowChanges):
    """Different items that may be left out of a user's past, see `RowChanges`.

    Attributes:
        codes: (R, S) which change leaves out each step, oldest first; P for none. There are more
            steps than the model reads, if they are known.
        ids: (R, S) the items as global ids, 0 for none.
        items: (R, P) the items as places in `values`, -1 for none.
        values: raw items.
        titles: their display names.
    """

    codes: Tensor
    ids: Tensor
    items: Tensor
    values: pd.Index
    titles: pd.Index

    def of_row(self, row: int, batch: Batch) -> Self:
        """The changes of one row, which competes with the others of a batch."""
        tensors = {name: getattr(self, name)[[row]] for name in ("order", "codes", "ids", "items")}
        return replace(self, batch=batch, **tensors)

    @property
    def counts(self) -> Tensor:
        """(R,): how many different items there are."""
        return (self.items >= 0).sum(1)

    def described(self, row: int, at: int) -> tuple[str, str]:
        """`without Heat (1995)`, and the item."""
        place = int(self.items[row, at])
        return f"without {self.titles[place]}", str(self.values[place])

    @torch.no_grad()
    def logits(self, rows: Tensor, sets: Tensor) -> Tensor:
        """The steps that are left move together, as those of a user without the others."""
        length, ids = self.model.schema.history_length, self.ids[rows].unsqueeze(1)
        codes = self.codes[rows].unsqueeze(1).expand(-1, sets.shape[1], -1)
        left_out = torch.cat([sets, torch.zeros_like(sets[..., :1])], 2).gather(2, codes)
        kept = (ids > 0) & ~left_out
        place = length - kept.flip(2).cumsum(2).flip(2)
        place = place.where(kept & (place >= 0), length)
        histories = torch.zeros(*sets.shape[:2], length + 1, dtype=torch.long)
        histories = histories.scatter(2, place, ids.expand_as(place))[..., :length]
        if self.width == 1:
            cases = rows.repeat_interleave(sets.shape[1]).split(ROWS)
            parts = zip(cases, histories.flatten(0, 1).split(ROWS), strict=True)
            found = [
                self._score(Inputs(*(x[row] for x in self.inputs)), past) for row, past in parts
            ]
            return torch.cat(found).view(*sets.shape[:2], 1)
        return torch.stack([self._beside(*each) for each in zip(rows, histories, strict=True)])

    def _beside(self, row: Tensor, histories: Tensor) -> Tensor:
        """(C, m): the logits of a row and its competitors beside C histories, in one pass."""
        own = Inputs(*(part[row].unsqueeze(0) for part in self.inputs))

        def score(history: Tensor) -> Tensor:
            return self._score(own, history.unsqueeze(0))[0]

        if len(histories) > 1:
            with suppress(RuntimeError):  # the model has an operation that vmap does not know
                return torch.vmap(score, chunk_size=max(1, 12 * ROWS // self.width))(histories)
        return torch.stack([score(history) for history in histories])


@dataclass(frozen=True)
class ColumnChanges(RowChanges):
    """Columns that may get another value, see `RowChanges`.

    Attributes:
        names: the P columns.
        own: those of them that a row does not share with its competitors.
        options: the other values of each column: words, and vectors (V, ...).
        chosen: (R, P) which of them each column takes, see `with_best`.
    """

    names: list[str]
    own: set[str]
    options: Mapping[str, tuple[list[str], Tensor]]
    chosen: Tensor = field(default_factory=lambda: torch.empty(0))

    def described(self, row: int, at: int) -> tuple[str, str]:
        """`city = Paris`, and the column."""
        name = self.names[at]
        return f"{name} {self.options[name][0][int(self.chosen[row, at])]}", name

    def with_best(self, margin: Callable[[Tensor], Tensor]) -> Self:
        """The same, each column at the value, other than its own, of the least margin."""
        chosen = torch.zeros_like(self.order)
        for at, name in enumerate(self.names):
            vectors = self.options[name][1]
            cases = torch.arange(len(chosen)).repeat_interleave(len(vectors))
            on = torch.zeros(len(cases), len(self.names), dtype=torch.bool)
            on[:, at] = True
            options = torch.arange(len(vectors)).repeat(len(chosen)).unsqueeze(1).expand_as(on)
            margins = margin(self._logits(cases, on, options)).view(len(chosen), -1)
            current = column_of(self.inputs, self.model.schema, name)[:, :1]
            same = (vectors == current).view(*margins.shape, -1).all(2)
            chosen[:, at] = margins.masked_fill(same, torch.inf).argmin(1)
        return replace(self, chosen=chosen)

    def logits(self, rows: Tensor, sets: Tensor) -> Tensor:
        """See `RowChanges`."""
        cases = rows.repeat_interleave(sets.shape[1])
        return self._logits(cases, sets.flatten(0, 1)).unflatten(0, sets.shape[:2])

    @torch.no_grad()
    def _logits(self, cases: Tensor, on: Tensor, options: Tensor | None = None) -> Tensor:
        """The logits (G, m) of rows (G,) with the columns `on` (G, P) at `options` (G, P), or as
        chosen.

        Where all of them are the row's own, its competitors stay as they are.
        """
        shared = on[:, [name not in self.own for name in self.names]].any(1)
        found = self.base[cases] if self.width > 1 else torch.empty(len(cases), 1)
        for some, width in ((shared, self.width), (~shared, 1)):
            places = some.nonzero().flatten()
            for part in places.split(max(1, ROWS // width)) if len(places) else ():
                values = self.chosen[cases[part]] if options is None else options[part]
                changed = self._changed(cases[part], on[part], values, width)
                past = self.history if len(self.history) == 1 else self.history[cases[part]]
                found[part, :width] = self._score(changed, past)
        return found

    @cached_property
    def base(self) -> Tensor:
        """(R, m): the logits without changes."""
        return self._score(self.inputs, self.history)

    @property
    def history(self) -> Tensor:
        """(R, T): the rows' histories."""
        return self.batch.history[:: self.width]

    def _changed(self, cases: Tensor, on: Tensor, options: Tensor, width: int) -> Inputs:
        """(G, width, ...): the first rows of each case after the changes."""
        inputs = Inputs(*(part[cases, :width] for part in self.inputs))
        for at, name in enumerate(self.names):
            if not on[:, at].any():
                continue
            rows = 1 if name in self.own else width
            part = column_of(inputs, self.model.schema, name)[:, :rows]
            vector = self.options[name][1][options[:, at]].unsqueeze(1)
            part.copy_(vector.where(on[:, at].view(-1, *[1] * (part.ndim - 1)), part))
        return inputs


def column_of(inputs: Inputs, schema: Schema, name: str) -> Tensor:
    """(...) or (..., E): the values of one column of embedded rows (..., D), (..., F, E)."""
    if name in schema.dense:
        return inputs.dense[..., schema.dense.index(name)]
    return inputs.fields[..., schema.field_index(name), :]


# --- the search ------------------------------------------------------------------------------


def smallest_sets(
    margin: Callable[[Tensor, Tensor], Tensor], order: Tensor, counts: Tensor, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """For each of R rows, a small set of changes whose margin is below 0.

    Greedy first: the first of the order, the first two, ...; then all smaller sets, see `SUBSETS`.

    Args:
        margin: of rows (A,) and sets (A, C, P) bool: (A, C).
        order: (R, P) the changes of each row, most promising first.
        counts: (R,) how many of them may be used.
        limit: changes, at most.

    Returns:
        (R,) bool, whether there is one; (R, P) bool, the sets; (R,) bool, whether all smaller ones
        were tried.
    """
    rows, size = order.shape
    limit = min(limit, size)
    greedy = order.argsort(1).unsqueeze(1) < torch.arange(1 + limit).unsqueeze(1)
    hits = margin(torch.arange(rows), greedy) < 0
    hits[:, 0] = False  # no change at all
    found = hits.any(1)
    needed = hits.int().argmax(1)
    chosen = greedy[torch.arange(rows), needed]
    needed[~found] = 1 + limit
    complete = torch.ones_like(found)
    for count in range(1, 1 + limit):
        some = (needed > count).nonzero().flatten()
        if not len(some):
            break
        among = size
        while comb(among, count) > SUBSETS:
            among -= 1
        members = order[some][:, torch.tensor([*combinations(range(among), count)])]
        sets = torch.zeros(*members.shape[:2], size, dtype=torch.bool)
        sets.scatter_(2, members, value=True)
        least, at = margin(some, sets).min(1)
        better, failed = some[least < 0], some[least >= 0]
        chosen[better] = sets[least < 0, at[least < 0]]
        found[better], needed[better] = True, count
        complete[failed] &= counts[failed] <= among
    return found, chosen, complete

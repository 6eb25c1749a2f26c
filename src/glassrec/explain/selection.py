"""Which rows of a split are explained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import pandas as pd
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.data.encoding import Encoder
from glassrec.data.saved_encoder import value_type
from glassrec.explain.row_filter import RowFilter
from glassrec.models.base import Recommender
from glassrec.spelling import did_you_mean

_MOST = 10_000
"""Users, at most, among whom a near name is sought."""


@dataclass(frozen=True)
class Selection:
    """Rows of a split that pass all filters, or some of them at random.

    Of a split of ranking lists, half of the rows are held-out items (label 1) and half candidates
    (label 0), as far as there are so many: at random, 99 of 100 rows would be candidates.

    A row's score is the predicted probability of a click, the estimate of a rating, and the logit
    of a retrieval.

    Args:
        split: where the rows come from. Pruning proposes from them, so not from test.
        rows: how many, drawn at random by the run's seed; all if there are fewer, or if None.
        above: only rows with a higher score.
        below: only rows with a lower score.
        top: only this share of the rows that pass all other filters, those with the highest scores.
        label: only rows whose true value is this.
        user: only rows of this user: a raw value. A number that is no raw value is the id that the
            model knows: users are numbered from 1 in the order of their raw values in the training
            rows, and 0 is everybody else.
        where: only rows whose raw values meet this condition, see `RowFilter`.
    """

    split: Literal["train", "val", "test"] = "val"
    rows: Annotated[int, Ge(1)] | None = 2000
    above: float | None = None
    below: float | None = None
    top: Annotated[float, Gt(0), Le(1)] | None = None
    label: float | None = None
    user: int | str | None = None
    where: str | None = None

    def __post_init__(self) -> None:
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError(
                f"no score lies above {self.above:g} and below {self.below:g}; set the two apart"
            )
        if self.where is not None:
            RowFilter(self.where)

    def check(self, dataset: Dataset) -> None:
        """ValueError, before anything runs, if the data has no such user or column."""
        if self.user is not None:
            self._user_id(dataset)
        if self.where is not None:
            RowFilter(self.where).check(dataset.encoder)

    def draw(self, matching: Tensor, seed: int, held_out: Tensor | None = None) -> Tensor:
        """As many of the matching rows (M,) as are wanted, at random, ascending.

        `held_out` (M,) bool balances ranking lists; None draws without regard to labels.
        """
        if self.rows is None or self.rows >= len(matching):
            return matching  # itself: a copy of millions takes memory
        if held_out is None:
            return matching[draw(len(matching), self.rows, seed)]
        kinds = matching[held_out], matching[~held_out]
        first = min(max(self.rows // 2, self.rows - len(kinds[1])), len(kinds[0]))
        wanted = first, self.rows - first
        parts = [rows[draw(len(rows), n, seed)] for rows, n in zip(kinds, wanted, strict=True)]
        return torch.cat(parts).sort().values

    def held_out(self, matching: Tensor, dataset: Dataset, task: int) -> Tensor | None:
        """(M,) bool: which matching rows are held-out items of ranking lists; None without lists,
        or where one label is selected.
        """
        split = dataset.splits[self.split]
        if split.query is None or self.label is not None:
            return None
        return split.batch.targets[matching, task] == 1

    def matching(self, model: Recommender, dataset: Dataset, task: int) -> Tensor:
        """(M,) int32: the rows that pass the filters, ascending; ValueError, with what there is, if
        none.
        """
        batch = dataset.splits[self.split].batch
        rows = self._of_user(self._labelled(batch, task), batch, dataset)
        rows = self._where(rows, batch, dataset.encoder)
        if self.above is None and self.below is None and self.top is None:
            return rows
        parts = [model.predict(batch.select(some))[:, task] for some in rows.split(2**20)]
        logits = torch.cat(parts).double()
        scores = logits.sigmoid() if model.schema.targets[task].kind == "click" else logits
        rows, scores = self._scored(rows, scores, "above", self.above)
        rows, scores = self._scored(rows, scores, "below", self.below)
        count = len(rows) if self.top is None else max(1, round(len(rows) * self.top))
        best = scores.argsort(descending=True, stable=True)[:count]
        return rows[best.sort().values]

    def describe(self, available: int, held_out: int | None = None) -> str:
        """For titles: `2,000 of 6,000 val rows at random, scored above 0.999`.

        `available` rows pass the filters; `held_out` of the chosen ones are held-out items, None
        without ranking lists.
        """
        whole = self.rows is None or available <= self.rows
        some = f"all {available:,}" if whole else f"{self.rows:,} of {available:,}"
        rows = f"{some} {self.split} rows{'' if whole else ' at random'}"
        if held_out is not None:
            chosen = available if whole or self.rows is None else self.rows
            rows += f" ({held_out:,} held-out items and {chosen - held_out:,} candidates)"
        return ", ".join([rows, *self._filters()])

    def _filters(self) -> Iterator[str]:
        words = {
            "label": self.label,
            "user": self.user,
            "where": self.where,
            "scored above": self.above,
            "scored below": self.below,
        }
        for name, value in words.items():
            if value is not None:
                yield f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        if self.top is not None:
            yield f"the {100 * self.top:g} % with the highest scores"

    def _labelled(self, batch: Batch, task: int) -> Tensor:
        if self.label is None:
            return torch.arange(batch.rows, dtype=torch.int32)
        truth = batch.targets[:, task]
        rows = (truth == torch.tensor(self.label, dtype=truth.dtype)).nonzero()[:, 0].int()
        if not len(rows):
            some = ", ".join(f"{value:g}" for value in truth.unique()[:10].tolist())
            raise ValueError(
                f"label {self.label:g}: none of {batch.rows:,} {self.split} rows has it; "
                f"there are the labels {some}"
            )
        return rows

    def _of_user(self, rows: Tensor, batch: Batch, dataset: Dataset) -> Tensor:
        if self.user is None:
            return rows
        number, schema = self._user_id(dataset), dataset.schema
        name = schema.user or ""
        wanted = schema.offsets[schema.field_index(name)] + number
        found = rows[batch.ids[rows, schema.id_columns(name)[0]] == wanted]
        if not len(found):
            raise ValueError(
                f"user {self.user}: in none of {len(rows):,} {self.split} rows; name another, or "
                "another explain.select.split"
            )
        return found

    def _user_id(self, dataset: Dataset) -> int:
        """The id of the user in its field."""
        schema, encoder = dataset.schema, dataset.encoder
        if schema.user is None:
            raise ValueError(f"user {self.user}: the data names no column of users")
        known = None if encoder is None else encoder.vocabularies[schema.user].values
        if known is not None:
            value = str(self.user) if value_type(known) == "text" else self.user
            if (at := int(known.get_indexer(pd.Index([value]))[0])) >= 0:
                return at + 1
        last = schema.fields[schema.field_index(schema.user)].size - 1
        if isinstance(self.user, int) and 0 <= self.user <= last:
            return self.user
        message = f"user {self.user}: the model has the users 0 to {last:,}"
        if known is not None:
            near = did_you_mean(str(self.user), known[:_MOST].astype(str))
            message += f", and no {schema.user} of the training rows is {self.user}{near}"
        raise ValueError(message)

    def _where(self, rows: Tensor, batch: Batch, encoder: Encoder | None) -> Tensor:
        if self.where is None:
            return rows
        condition = RowFilter(self.where)
        found = rows[torch.from_numpy(condition.matches(batch, encoder))[rows]]
        if not len(found):
            notes = [] if encoder is None else condition.unknown(encoder)
            raise ValueError(
                f"where {self.where}: true of none of {len(rows):,} {self.split} rows"
                + "".join(f"; {note}" for note in notes)
            )
        return found

    def _scored(
        self, rows: Tensor, scores: Tensor, side: Literal["above", "below"], bound: float | None
    ) -> tuple[Tensor, Tensor]:
        if bound is None:
            return rows, scores
        kept = scores > bound if side == "above" else scores < bound
        if not kept.any():
            raise ValueError(
                f"{side} {bound:g}: none of {len(rows):,} {self.split} rows is scored so; "
                f"the scores lie between {scores.min():.6g} and {scores.max():.6g}"
            )
        return rows[kept], scores[kept]


def draw(available: int, wanted: int, seed: int) -> Tensor:
    """`wanted` of `available` rows at random, ascending; all of them if there are fewer."""
    if available <= wanted:
        return torch.arange(available)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(available, generator=generator)[:wanted].sort().values

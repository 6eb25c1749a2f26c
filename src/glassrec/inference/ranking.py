"""Items ranked for users: every candidate beside every user, by the logit of one task."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.raw_tables import ITEM, LABEL
from glassrec.inference.list_inputs import CandidateItems, context_columns, rankable
from glassrec.inference.opened_run import ModelName, OpenedRun
from glassrec.inference.row_files import Place
from glassrec.inference.rows import CHUNK, HISTORY, RawRows, encode_frame
from glassrec.inference.users_and_items import plain_index
from glassrec.models.base import Inputs, Recommender
from glassrec.models.retriever import Retriever, as_retriever
from glassrec.spelling import one_of

Seen = Literal["drop", "drop_taken", "keep"]
"""The items of the user's rows in the log: all are dropped, those with label 1 (all where there is
no label), or none."""

SCORES = 2**22
"""Scores in memory at a time: users times candidates."""


class Ranking(NamedTuple):
    """The best k candidates of U users, best first."""

    places: np.ndarray
    """(R,) among the candidates, those of a user side by side"""
    users: np.ndarray
    """(R,) below U"""
    ranks: np.ndarray
    """(R,) from 1"""


def without_past(model: Recommender, batch: Batch) -> Inputs:
    """The embedded rows of a batch, without its histories."""
    return model.embed(batch._replace(history=batch.history[:, :0]))


def with_past(model: Recommender, inputs: Inputs, history: Tensor) -> Inputs:
    """Embedded rows beside one history (1, T) of ids, which the model need read only once."""
    length = model.schema.history_length
    if not length:
        return inputs
    past = (part.expand(inputs.rows, *part.shape[1:])
            for part in model.table.history(history[:, :length]))  # fmt: skip
    return Inputs(inputs.dense, inputs.fields, *past)


def best(scores: Tensor, k: int) -> Ranking:
    """The k best candidates of each user by scores (U, n), without those at -inf.

    Of equal candidates the first comes first.
    """
    order = scores.sort(dim=1, descending=True, stable=True)
    places = order.indices[:, :k]
    there = order.values[:, :k] > -torch.inf
    ranks = torch.arange(1, 1 + places.shape[1]).expand_as(places)
    rows = torch.arange(len(scores)).unsqueeze(1).expand_as(places)
    return Ranking(*(each[there].numpy() for each in (places, rows, ranks)))


@dataclass(frozen=True)
class Ranker:
    """Ranks candidates for users; see `Seen` for those that are left out.

    Args:
        run: scores them.
        candidates: what is ranked.
        task: by the logit of which task; None is the retrieval, or else the first one.
        model: which of the two models.
        seen: which items of a user's past are left out.
        rows: pairs of a user and a candidate that pass the model at a time.

    Raises:
        ValueError: there is no such task.
    """

    run: OpenedRun
    candidates: CandidateItems
    task: str | None = None
    model: ModelName = "trained"
    seen: Seen = "drop"
    rows: int = CHUNK

    def __post_init__(self) -> None:
        known = [target.name for target in self.run.schema.targets]
        if self.task not in (None, *known):
            raise ValueError(f"task: there is no task {self.task!r}{one_of(str(self.task), known)}")

    @cached_property
    def target(self) -> int:
        """The column of the logits."""
        targets = self.run.schema.targets
        names = [target.name for target in targets]
        if self.task is not None:
            return names.index(self.task)
        return next((at for at, each in enumerate(targets) if each.kind == "retrieval"), 0)

    @property
    def users_at_once(self) -> int:
        """Users whose scores are in memory at a time."""
        return min(512, max(1, SCORES // len(self.candidates.frame)))

    def rows_of(self, context: pd.DataFrame, ranking: Ranking, start: int = 0) -> RawRows:
        """The encoded rows (R) of a ranking, before which there are `start` others."""
        beside = context.iloc[ranking.users].reset_index(drop=True)
        items = self.candidates.frame.iloc[ranking.places].reset_index(drop=True)
        whole = self.candidates.place
        place = Place(
            whole.path, lines=[whole.lines[row] for row in ranking.places.tolist()], unit=whole.unit
        )
        rows = encode_frame(self.run, pd.concat([beside, items], axis=1), place=place)
        return rows._replace(start=start)

    def users(self, context: pd.DataFrame, place: Place) -> Batch:
        """The encoded users (U rows), each beside the first candidate."""
        return self.user_rows(context, place).batch

    def user_rows(self, context: pd.DataFrame, place: Place) -> RawRows:
        """The same, with their raw values."""
        first = self.candidates.frame.iloc[np.zeros(len(context), int)].reset_index(drop=True)
        frame = pd.concat([context.reset_index(drop=True), first], axis=1)
        return encode_frame(self.run, frame, place=place)

    @property
    def items(self) -> Batch:
        """The encoded candidates (n rows), each beside the last row of some user."""
        return self.item_rows.batch

    @cached_property
    def item_rows(self) -> RawRows:
        """The same, with their raw values."""
        last, frame = self.run.last_rows, self.candidates.frame
        context = {name: last.context[name].iloc[:1].astype(object).to_numpy(object)[0]
                   for name in context_columns(self.run)}  # fmt: skip
        beside = {rankable(self.run)[0]: last.users[0], **context}
        if self.run.schema.history_length:
            beside[HISTORY] = ""
        return encode_frame(self.run, frame.assign(**beside), place=self.candidates.place)

    def pairs(self, users: Batch, items: Batch) -> Batch:
        """All U · m rows of U users with m candidates, those of a user side by side."""
        schema, many = self.run.schema, items.rows
        side = [column for name in schema.item_side for column in schema.id_columns(name)]
        numbers = [schema.dense.index(name) for name in schema.item_dense]
        found = Batch(*(part.repeat_interleave(many, 0) for part in users))
        found.ids[:, side] = items.ids[:, side].repeat(users.rows, 1)
        found.dense[:, numbers] = items.dense[:, numbers].repeat(users.rows, 1)
        return found

    @torch.no_grad()
    def scores(self, users: Batch) -> Tensor:
        """(U, n): what candidates are ranked by; the logit, up to a constant of each user."""
        model, n = self.run.recommender(self.model), self.items.rows
        if (
            isinstance(model, Retriever)
            and self.run.schema.targets[self.target].kind == "retrieval"
        ):
            return model.query(model.embed(users)) @ self._vectors.T
        at_once = 1 if model.schema.history_length else max(1, self.rows // n)
        found = torch.empty(users.rows, n)
        for row in range(0, users.rows, at_once):
            some = users.slice(row, row + at_once)
            for first in range(0, n, self.rows):
                items = self.items.slice(first, first + self.rows)
                inputs = without_past(model, self.pairs(some, items))
                logits = model.task_logits(with_past(model, inputs, some.history))
                block = logits[:, self.target].view(some.rows, -1)
                found[row : row + at_once, first : first + self.rows] = block
        return found

    @cached_property
    def _vectors(self) -> Tensor:
        """(n, V): the vectors of the candidates."""
        model = as_retriever(self.run.recommender(self.model))
        return torch.cat([model.candidate(model.embed(e)) for e in self.items.chunks(self.rows)])

    def allowed(self, users: pd.Series) -> Tensor:
        """(U, n) bool: the candidates that are not left out."""
        found = torch.ones(len(users), len(self.candidates.frame), dtype=torch.bool)
        if self.seen == "keep":
            return found
        log = self.run.interactions
        for row, at in enumerate(log.users.get_indexer(plain_index(users))):
            if at >= 0:
                taken = self._candidate_of_row[log.starts[at] : log.starts[at + 1]]
                found[row, taken[taken >= 0]] = False
        return found

    @cached_property
    def _candidate_of_row(self) -> np.ndarray:
        """The candidate that each row of the log makes seen; -1 for none."""
        log, items = self.run.interactions.frame, self.run.items
        of_item = np.full(len(items) + 1, -1)
        at = items.places(self.candidates.frame[rankable(self.run)[1]])
        of_item[at[at >= 0]] = np.flatnonzero(at >= 0)
        found = of_item[items.places(log[ITEM])]
        if self.seen == "drop_taken" and LABEL in log:
            found[log[LABEL].to_numpy() != 1] = -1
        return found

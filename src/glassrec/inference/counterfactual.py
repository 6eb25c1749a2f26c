"""Counterfactuals: few changes of a row that take its item out of a list, or its click below a
threshold.

A change leaves one of the user's past items out, or puts one column at the baseline of the run's
explanation or at another value that the run knows. The changes of a row are tried in the order of
their attributions, then all smaller sets of them as far as `SUBSETS` allows. Whatever is returned
was verified by a forward pass, for a list by one over all of its candidates. A change is one of the
model's input; it says nothing about causes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import log
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.encoding import MultiValued
from glassrec.data.events import step_names
from glassrec.inference.opened_run import ModelName, OpenedRun
from glassrec.inference.ranking import Ranker, Ranking
from glassrec.inference.reasons import cell_text
from glassrec.inference.row_changes import (
    LIMIT,
    ROWS,
    ColumnChanges,
    Counterfactual,
    PastItems,
    RowChanges,
    column_of,
    masks_of,
    smallest_set,
)
from glassrec.inference.rows import RawRows

OBSERVED = 16
"""Other values of a column that are tried, at most, spread evenly over the sorted ones."""

POOL = 500
"""Candidates of a list that a change is tried with, the best ones; success among them is success
among all."""


def row_counterfactuals(
    run: OpenedRun,
    rows: RawRows,
    threshold: float = 0.5,
    limit: int = LIMIT,
    model: ModelName = "trained",
    task: str | None = None,
) -> list[Counterfactual | None]:
    """For each of N rows, few changes that take its click below a probability.

    Args:
        run: scores them.
        rows: encoded rows.
        threshold: of the probability of a click, or of the estimate of a rating.
        limit: changes, at most.
        model: which model.
        task: which task; the run's if None.

    Returns:
        None for rows where no such set of changes was found.

    Raises:
        ValueError: the task is a retrieval, or the threshold of a click is no probability.
    """
    names = [target.name for target in run.schema.targets]
    column = names.index(task or run.explain_settings.task or names[0])
    kind = run.schema.targets[column].kind
    if kind == "retrieval" or (kind == "click" and not 0 < threshold < 1):
        raise ValueError(
            f"threshold={threshold} of {names[column]!r}: a click takes a probability between 0 "
            "and 1, a rating an estimate, and a retrieval none"
        )
    least = log(threshold / (1 - threshold)) if kind == "click" else threshold
    search = CounterfactualSearch(run, model, column, limit)
    found: list[Counterfactual | None] = []
    orders = search.orders(rows)
    for row, logit in enumerate(search.model.predict(rows.batch)[:, column].tolist()):
        if logit < least:
            found.append(Counterfactual((), (), _outcome(logit, kind == "click"), smallest=True))
            continue
        case = below(rows.batch.slice(row, row + 1), least)
        answer = search.first(rows, row, case, orders[row])
        found.append(
            None
            if answer is None
            else answer.counterfactual(_outcome(float(answer.logits[0]), kind == "click"))
        )
    return found


def below(one: Batch, logit: float) -> Case:
    """A row whose logit should fall below a number."""
    return Case(one, lambda found: found[:, 0] - logit, lambda changes, sets: changes(one, sets))


def list_counterfactuals(
    ranker: Ranker, rows: RawRows, ranking: Ranking, scores: Tensor, k: int, limit: int = LIMIT
) -> list[Counterfactual | None]:
    """For each of the R items of some lists, few changes that take it out of the first k.

    Args:
        ranker: made the lists.
        rows: the encoded items (R) of the ranking.
        ranking: their places.
        scores: (U, n) of the candidates of each user, -inf where they are left out.
        k: the length of a list.
        limit: changes, at most.

    Returns:
        None for items where no such set of changes was found.
    """
    search = CounterfactualSearch(ranker.run, ranker.model, ranker.target, limit)
    found: list[Counterfactual | None] = []
    orders = search.orders(rows)
    for row, (place, user) in enumerate(zip(ranking.places, ranking.users, strict=True)):
        order = scores[user].argsort(descending=True, stable=True)
        others = order[(order != place) & (scores[user][order] > -torch.inf)]
        answer = None
        if len(others) >= k:  # fewer could not push it out
            answer = search.first(rows, row, _in_list(ranker, rows, row, others, k), orders[row])
        if answer is None:
            found.append(None)
            continue
        rank = 1 + int((answer.logits[1:] > answer.logits[0]).sum())
        smallest = answer.smallest and len(others) <= POOL
        found.append(answer._replace(smallest=smallest).counterfactual(rank))
    return found


def _in_list(ranker: Ranker, rows: RawRows, row: int, others: Tensor, k: int) -> Case:
    """An item that should leave the first k of a list, whose `others` come best first."""
    one = rows.batch.slice(row, row + 1)

    def beside(some: Tensor) -> Batch:
        """The row, then its user with other candidates."""
        rest = ranker.pairs(one, ranker.items.select(some))
        return Batch(*(torch.cat(parts) for parts in zip(one, rest, strict=True)))

    def verify(changes: RowChanges, sets: Tensor) -> Tensor:
        parts = [changes(beside(some), sets) for some in others.split(ROWS)]
        return torch.cat([parts[0][:, :1], *(part[:, 1:] for part in parts)], 1)

    def lead(logits: Tensor) -> Tensor:
        """How far the item is ahead of the k-th best of the others."""
        return logits[:, 0] - logits[:, 1:].topk(k, 1).values[:, -1]

    return Case(beside(others[: max(POOL, k)]), lead, verify)


def _outcome(logit: float, click: bool) -> float:
    return float(torch.tensor(logit, dtype=torch.float64).sigmoid()) if click else logit


# --- the search ------------------------------------------------------------------------------


class Case(NamedTuple):
    """What the changes of a row should do."""

    batch: Batch
    """the row, and those that it competes with"""
    margin: Callable[[Tensor], Tensor]
    """of logits (C, m): (C,) how much is missing; a set of changes succeeds below 0"""
    verify: Callable[[RowChanges, Tensor], Tensor]
    """the logits of everything under one set of changes"""


class Answer(NamedTuple):
    """A set of changes that succeeds."""

    changes: RowChanges
    places: tuple[int, ...]
    smallest: bool
    logits: Tensor
    """of the row, then of all that it competes with, after the changes"""

    def counterfactual(self, outcome: float) -> Counterfactual:
        """The changes in words."""
        words, names = self.changes.words, self.changes.names
        return Counterfactual(
            tuple(words[at] for at in self.places),
            tuple(names[at] for at in self.places),
            outcome,
            self.smallest,
        )


class CounterfactualSearch:
    """Searches counterfactuals of rows by one model and one column of its logits."""

    def __init__(self, run: OpenedRun, model: ModelName, target: int, limit: int) -> None:
        self.run, self.name, self.target, self.limit = run, model, target, limit
        self.model = run.recommender(model)

    def orders(self, rows: RawRows) -> Tensor:
        """(N, P): the attributions of each column and step, by the run's own method."""
        task = self.run.schema.targets[self.target].name
        explainer = self.run.explainer(rows.batch, self.name, task)
        method = self.run.explain_settings.method
        self.features = explainer.build_feature_mask("fields")
        evaluations = method.evaluations(len(self.features.features))
        views = explainer.views(
            torch.arange(rows.batch.rows), evaluations, rows.start, self.features
        )
        parts = [explainer.averaged(method.attribute(view, explainer.seed)) for view in views]
        return torch.cat(parts).detach()

    def first(self, rows: RawRows, row: int, case: Case, scores: Tensor) -> Answer | None:
        """Past items, where the model reads any, or else columns."""
        if self.model.schema.history_length:
            changes: RowChanges = self.past_items(rows, row, scores)
            if (found := self._searched(changes, case, len(changes.words))) is not None:
                return found
        columns = self.columns(rows, row, case, scores)
        return self._searched(columns, case, len(self.features.features))

    def _searched(self, changes: RowChanges, case: Case, size: int) -> Answer | None:
        found = smallest_set(
            lambda sets: case.margin(changes(case.batch, sets)), changes.order, size, self.limit
        )
        if found is None:
            return None
        places, smallest = found
        logits = case.verify(changes, masks_of([places], size))
        if float(case.margin(logits)) >= 0:
            return None
        return Answer(changes, places, smallest, logits[0])

    def past_items(self, rows: RawRows, row: int, scores: Tensor) -> PastItems:
        """The items of a row's history, by the sums of their steps' attributions (P,)."""
        schema, length = self.run.schema, self.run.schema.history_length
        steps = rows.values[step_names(length)].iloc[row].dropna().tolist()
        user = rows.values[schema.user or ""].iloc[[row]]
        # What stands before the window moves up when one of its items is left out.
        log = self.run.interactions.histories(user, None, 4 * length + self.limit).iloc[0]
        longer = log.dropna().tolist()
        past = longer if steps and longer[-len(steps) :] == steps else steps
        codes, items = pd.factorize(pd.Series(past, dtype=object))
        vocabulary = self.run.encoder.vocabularies[schema.item or ""]
        offset = schema.offsets[schema.field_index(schema.item or "")]
        known = pd.Series(items, dtype=object).astype(vocabulary.values.dtype)
        ids = torch.from_numpy(vocabulary.encode(known, offset))[torch.from_numpy(codes)]
        names = self.run.items.names_of(known)
        gains = dict.fromkeys(codes[len(past) - len(steps) :].tolist(), 0.0)
        at = [self.features.features.index(name) for name in step_names(length)]
        window = scores[at][length - len(steps) :].tolist()
        for code, score in zip(codes[len(past) - len(steps) :].tolist(), window, strict=True):
            gains[code] += score
        return PastItems(
            self.model,
            self.target,
            sorted(gains, key=lambda code: -gains[code]),
            {code: f"without {name}" for code, name in enumerate(names)},
            {code: str(item) for code, item in enumerate(items)},
            torch.from_numpy(codes),
            ids,
        )

    def columns(self, rows: RawRows, row: int, case: Case, scores: Tensor) -> ColumnChanges:
        """The columns of a row, by their attributions (P,), each at the value that helps most."""
        schema, columns = self.model.schema, self.run.columns
        item = columns.item if case.batch.rows > 1 else None  # another item is another list
        usable = [
            at for at, name in enumerate(self.features.features)
            if name in (*schema.dense, *schema.field_names) and name != item
        ]  # fmt: skip
        order = sorted(usable, key=lambda at: -float(scores[at]))
        own = {*columns.item_side, columns.item or ""}
        found = ColumnChanges(
            self.model, self.target, order, {}, {}, self.features, own, vectors={}
        )
        inputs = self.model.embed(case.batch.slice(0, 1))
        for at in usable:
            name = self.features.features[at]
            texts, vectors = self.options[name]
            current = column_of(inputs, schema, name)[0]
            margins = case.margin(found.each(case.batch, name, vectors))
            same = (vectors == current).reshape(len(vectors), -1).all(1)
            best = int(margins.masked_fill(same, torch.inf).argmin())
            found.vectors[name], found.names[at] = vectors[best], name
            found.words[at] = f"{name} {texts[best]}"
        return found

    @cached_property
    def options(self) -> dict[str, tuple[list[str], Tensor]]:
        """For each column that the model reads, other values in words, and embedded."""
        schema, base = self.model.schema, self.run.baseline
        found = {}
        for name in (*schema.dense, *schema.field_names):
            values = self._observed(name)
            texts = ["at its baseline", *(f"= {cell_text(value)}" for value in values)]
            vectors = [column_of(base, schema, name).mean(0, keepdim=True)]
            vectors += [self._embedded(name, values)] if len(values) else []
            found[name] = (texts, torch.cat(vectors))
        return found

    def _observed(self, name: str) -> pd.Index:
        """Values of a column that the run knows, some of them."""
        run, known = self.run, self.run.encoder.vocabularies.get(name)
        if known is not None and not isinstance(known, MultiValued):
            values = known.values
        elif name in run.columns.item_side:
            values = pd.Index(run.items.side[name].dropna().unique())
        elif run.columns.user is not None and run.columns.item is not None:
            values = pd.Index(run.last_rows.context[name].dropna().unique())
        else:
            return pd.Index([])
        values = pd.Index(values.astype(object)).sort_values()
        return values[
            np.linspace(0, len(values) - 1, min(OBSERVED, len(values))).round().astype(int)
        ]

    def _embedded(self, name: str, values: pd.Index) -> Tensor:
        """(V, E) or (V,): the vectors of values of a column."""
        encoder, schema = self.run.encoder, self.run.schema
        batch = Batch(
            torch.zeros(len(values), len(schema.dense)),
            torch.tensor([[*schema.offsets]]).repeat_interleave(
                torch.tensor([field.values for field in schema.fields]), 1
            ).repeat(len(values), 1),
            torch.zeros(len(values), schema.history_length, dtype=torch.long),
            torch.zeros(len(values), len(schema.targets)),
        )  # fmt: skip
        if name in schema.dense:
            scaled = encoder.scalers[name].apply(values.to_numpy(np.float64))
            batch.dense[:, schema.dense.index(name)] = torch.from_numpy(scaled).float()
        else:
            known, at = encoder.vocabularies[name], schema.id_columns(name)
            cells = pd.Series(values if isinstance(known, MultiValued) else
                              values.astype(known.values.dtype))  # fmt: skip
            ids = known.encode(cells, schema.offsets[schema.field_index(name)])
            batch.ids[:, [*at]] = torch.from_numpy(ids.reshape(len(values), len(at)))
        with torch.no_grad():
            return column_of(self.model.embed(batch), self.model.schema, name)

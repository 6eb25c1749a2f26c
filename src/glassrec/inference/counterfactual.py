"""Counterfactuals: few changes of a row that take its item out of a list, or its click below a
threshold.

A change leaves one of the user's past items out, or puts one column at the baseline of the run's
explanation or at another value that the run knows. The changes of a row are tried in the order of
their attributions, then all smaller sets of them as far as `SUBSETS` allows. Whatever is returned
was verified by a forward pass, for a list by one over all of its candidates. A change is one of the
model's input; it says nothing about causes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from math import log
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
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
    smallest_sets,
)
from glassrec.inference.rows import RawRows, RowEncoder

OBSERVED = 16
"""Other values of a column that are tried, at most, spread evenly over the sorted ones."""

POOL = 500
"""Candidates of a list that a change is tried with, the best ones; success among them is success
among all."""

CASES = 256
"""Rows of which changes are searched at a time."""

Margin = Callable[[Tensor], Tensor]
"""Of logits (..., m) of a row and its competitors: (...) how much is missing, below 0 if nothing"""


def row_counterfactuals(
    run: OpenedRun,
    rows: RawRows,
    threshold: float | None = None,
    limit: int = LIMIT,
    model: ModelName = "trained",
    task: str | None = None,
) -> list[Counterfactual | None]:
    """For each of N rows, few changes that take its click below a probability.

    Args:
        run: scores them.
        rows: encoded rows.
        threshold: of the probability of a click, or of the estimate of a rating; None is 0.5, or
            the mean rating in training.
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
    target = run.schema.targets[column]
    click = target.kind == "click"
    if threshold is None:
        threshold = 0.5 if click else target.mean
    if target.kind == "retrieval" or (click and not 0 < threshold < 1):
        raise ValueError(
            f"threshold={threshold} of {target.name!r}: a click takes a probability between 0 "
            "and 1, a rating an estimate, and a retrieval none"
        )
    least = log(threshold / (1 - threshold)) if click else threshold
    search = CounterfactualSearch(run, model, column, limit)
    logits, orders = search.model.predict(rows.batch)[:, column], search.orders(rows)
    shown = expit if click else float
    found: list[Counterfactual | None] = [
        Counterfactual((), (), shown(logit), smallest=True) for logit in logits.tolist()
    ]
    above = torch.nonzero(logits >= least).flatten()
    for some in above.split(CASES) if len(above) else ():
        batch = rows.batch.select(some)
        past = search.past_items(rows.values.iloc[some.numpy()], batch, orders[some])
        answers = search.answers(past, batch, orders[some], lambda after: after[..., 0] - least)
        for row, answer in zip(some.tolist(), answers, strict=True):
            found[row] = answer and answer.counterfactual(shown(float(answer.logits[0])))
    return found


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
    orders = search.orders(rows)
    past = search.past_items(rows.values, rows.batch, orders)

    def margin(logits: Tensor) -> Tensor:
        """How far the item is ahead of the k-th best of the others."""
        return logits[..., 0] - logits[..., 1:].topk(k).values[..., -1]

    found: list[Counterfactual | None] = []
    for row, (place, user) in enumerate(zip(ranking.places, ranking.users, strict=True)):
        order = scores[user].argsort(descending=True, stable=True)
        others = order[(order != place) & (scores[user][order] > -torch.inf)]
        found.append(None)
        if len(others) < k:
            continue  # fewer could not push it out
        one = rows.batch.slice(row, row + 1)
        pool = _beside(ranker, one, others[: max(POOL, k)])
        own = past and past.of_row(row, pool)
        (answer,) = search.answers(own, pool, orders[row : row + 1], margin)
        if answer is None:
            continue
        parts = (answer.after(_beside(ranker, one, some)) for some in others.split(ROWS))
        competitors = torch.cat([part[1:] for part in parts])
        rank = 1 + int((competitors > answer.logits[0]).sum())
        if rank > k:
            smallest = answer.smallest and len(others) <= POOL
            found[row] = answer._replace(smallest=smallest).counterfactual(rank)
    return found


def _beside(ranker: Ranker, one: Batch, others: Tensor) -> Batch:
    """A row, then its user with other candidates."""
    rest = ranker.pairs(one, ranker.items.select(others))
    return Batch(*(torch.cat(parts) for parts in zip(one, rest, strict=True)))


# --- the search ------------------------------------------------------------------------------


class Answer(NamedTuple):
    """A set of changes that succeeds."""

    changes: RowChanges
    row: int
    chosen: Tensor
    """(P,) bool: the changes"""
    smallest: bool
    logits: Tensor
    """(m,) of the row and all that it competes with, after the changes"""

    def after(self, batch: Batch) -> Tensor:
        """(m,): the logits after the changes of the one row, beside others in a batch."""
        changes = replace(self.changes, batch=batch)
        return changes.logits(torch.tensor([0]), self.chosen.view(1, 1, -1))[0, 0]

    def counterfactual(self, outcome: float) -> Counterfactual:
        """The changes in words, most promising first."""
        row, order = self.row, self.changes.order[self.row].tolist()
        places = [at for at in order[: int(self.changes.counts[row])] if self.chosen[at]]
        words, names = zip(*(self.changes.described(row, at) for at in places), strict=True)
        return Counterfactual(words, names, outcome, self.smallest)


class CounterfactualSearch:
    """Searches counterfactuals of rows by one model and one column of its logits."""

    def __init__(self, run: OpenedRun, model: ModelName, target: int, limit: int) -> None:
        self.run, self.name, self.target, self.limit = run, model, target, limit
        self.model = run.recommender(model)

    def orders(self, rows: RawRows) -> Tensor:
        """(N, P): the attributions of each column and step, by the run's own method."""
        task = self.run.schema.targets[self.target].name
        explainer = self.run.explainer(rows.batch, self.name, task)
        explainer.feature_mask = explainer.build_feature_mask("fields")
        self.features = explainer.feature_mask.features
        method, places = self.run.explain_settings.method, torch.arange(rows.batch.rows)
        return explainer.explained(method, places, rows.start).values

    def answers(
        self, past: PastItems | None, batch: Batch, scores: Tensor, margin: Margin
    ) -> list[Answer | None]:
        """For each of R rows, past items where these are enough, or else columns.

        Args:
            past: the items that may be left out, if any.
            batch: (R · m rows) the rows, each before its competitors.
            scores: (R, P) the attributions.
            margin: below 0 for changes that succeed.
        """
        rows, width = len(scores), batch.rows // len(scores)
        found: list[Answer | None] = [None] * rows
        if past is not None:
            found = [*self._answers(past, margin)]
        left = torch.tensor([row for row in range(rows) if found[row] is None])
        if len(left):
            some = (width * left.unsqueeze(1) + torch.arange(width)).flatten()
            changes = self.columns(batch.select(some), scores[left], margin)
            for row, answer in zip(left.tolist(), self._answers(changes, margin), strict=True):
                found[row] = answer
        return found

    def _answers(self, changes: RowChanges, margin: Margin) -> Iterator[Answer | None]:
        hits, sets, complete = smallest_sets(
            lambda some, sets: margin(changes.logits(some, sets)),
            changes.order, changes.counts, self.limit,
        )  # fmt: skip
        logits = changes.logits(torch.arange(len(hits)), sets.unsqueeze(1))[:, 0]
        for row, after in enumerate(logits):
            success = hits[row] and margin(after) < 0
            answer = Answer(changes, row, sets[row], bool(complete[row]), after)
            yield answer if success else None

    def past_items(self, values: pd.DataFrame, batch: Batch, scores: Tensor) -> PastItems | None:
        """The different items of R rows' histories, by the sums of their steps' attributions (R,
        P); None if the model reads no histories.
        """
        schema, length = self.run.schema, self.model.schema.history_length
        if not length:
            return None
        at = [self.features.index(name) for name in step_names(length)]
        codes, items = pd.factorize(self._past(values, length).to_numpy(object).ravel())
        steps = torch.from_numpy(codes).view(len(values), -1)
        window = steps[:, -length:]
        equal = window.unsqueeze(1) == window.unsqueeze(2)
        first = (equal.int().argmax(2) == torch.arange(length)) & (window >= 0)
        gains = (equal * scores[:, at].unsqueeze(1)).sum(2).masked_fill(~first, -torch.inf)
        order = gains.argsort(dim=1, descending=True, stable=True)
        own = window.where(first, -1).gather(1, order)
        matches = (steps.unsqueeze(2) == own.unsqueeze(1)) & (steps >= 0).unsqueeze(2)
        places = matches.int().argmax(2).where(matches.any(2), length)
        item = schema.item or ""
        known = self.run.encoder.vocabularies[item].encode(pd.Series(items), schema.unseen_id(item))
        ids = torch.from_numpy(np.append(known, 0))
        titles = pd.Index(self.run.items.names_of(pd.Index(items)))
        return PastItems(
            self.model, self.target, batch, torch.arange(length).expand_as(order),
            places, ids[steps], own, pd.Index(items), titles,
        )  # fmt: skip

    def _past(self, values: pd.DataFrame, length: int) -> pd.DataFrame:
        """(N rows) the items of the rows' histories, newest last; before them, if the log ends
        with these, earlier ones, which move up when one of these is left out.
        """
        steps, user = values[step_names(length)].astype(object), self.run.schema.user
        if user not in values:
            return steps
        users = values[user]
        log = self.run.interactions.histories(users, None, 4 * length + self.limit).astype(object)
        ends = log.iloc[:, -length:].to_numpy()
        same = ((steps.to_numpy() == ends) | steps.isna().to_numpy()).all(1)
        log.iloc[:, -length:] = steps.to_numpy()
        log.iloc[~same, :-length] = None
        return log

    def columns(self, batch: Batch, scores: Tensor, margin: Margin) -> ColumnChanges:
        """The columns of R rows, by their attributions, each at the value that helps most."""
        schema, columns = self.model.schema, self.run.columns
        alone = batch.rows == len(scores)
        names = [
            name for name in self.features
            if name in self.options and (alone or name != columns.item)  # that is another list
        ]  # fmt: skip
        at = [self.features.index(name) for name in names]
        order = scores[:, at].argsort(dim=1, descending=True, stable=True)
        own = {*schema.columns} if alone else {*columns.item_side}
        found = ColumnChanges(self.model, self.target, batch, order, names, own, self.options)
        return found.with_best(margin)

    @cached_property
    def options(self) -> dict[str, tuple[list[str], Tensor]]:
        """For each column that the model reads, other values in words, and embedded."""
        schema, base = self.model.schema, self.run.baseline
        found = {}
        for name in schema.columns:
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
        batch = RowEncoder(self.run).tensors(pd.DataFrame({name: values}))
        with torch.no_grad():
            return column_of(self.model.embed(batch), self.model.schema, name)

"""A model before and after pruning, and whether both show the same items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isnan

import pandas as pd
import torch
from torch import Tensor

from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Schema
from glassrec.metrics.quality import predicted, unseen_rows
from glassrec.metrics.retrieval import first_places
from glassrec.models.base import Recommender

TOP = 10
"""How many places of a list are shown."""


@dataclass(frozen=True)
class ModelPair:
    """The large model and the pruned one, and the split that they are compared on."""

    large: Recommender
    small: Recommender
    dataset: Dataset
    name: str
    """of the split: train, val or test"""

    @property
    def schema(self) -> Schema:
        """The columns of the data."""
        return self.dataset.schema

    @property
    def split(self) -> Split:
        """The rows."""
        return self.dataset.splits[self.name]

    @cached_property
    def logits(self) -> tuple[Tensor, Tensor]:
        """(N, K) float64 of each model; ValueError if there are none, or not all finite."""
        return predicted(self.large, self.split), predicted(self.small, self.split)


def agreement(pair: ModelPair, *, seed: int = 0) -> dict[str, float]:
    """`top10_agreement`: of the large model's first ten of a list, the share in the small one's.

    It is a mean over lists of more than ten; without any, there is no such metric. For a retrieval
    a list is all items that a user can be shown. Otherwise it is a ranking list of the split; where
    there are none, all rows of a user seen in training; in data without users, all rows. Names
    begin with `task/` where there are several tasks.

    Args:
        pair: both models and the split.
        seed: of the order of rows of equal logit. It is random, so that their order in the data is
            no matter, and the same for both models, so that equal models agree.
    """
    rows, lists = _lists(pair)
    before, after = (logits[rows] for logits in pair.logits)
    found = {}
    for column, target in enumerate(pair.schema.targets):
        if target.kind == "retrieval":
            share = _of_catalogue(pair, column)
        else:
            share = shared_top(before[:, column], after[:, column], lists, TOP, seed)
        found[pair.schema.metric(target, f"top{TOP}_agreement")] = share
    return {name: share for name, share in found.items() if not isnan(share)}


def _lists(pair: ModelPair) -> tuple[Tensor, Tensor]:
    """(M,) the rows that are in a list, and (M,) the number of their list."""
    batch, schema = pair.split.batch, pair.schema
    rows = torch.arange(batch.rows)
    if pair.split.query is not None:
        return rows, pair.split.query
    if schema.user is None:
        return rows, torch.zeros_like(rows)
    users = batch.ids[:, schema.id_columns(schema.user)[0]]
    known = ~unseen_rows(pair.split, schema)["unseen_user"]
    return rows[known], users[known]


def shared_top(before: Tensor, after: Tensor, lists: Tensor, k: int, seed: int) -> float:
    """The mean over lists of more than k rows of |both first k| / k; nan if there are none.

    `before` and `after` are logits (N,), `lists` (N,) names the list of each row.
    """
    order = torch.randperm(len(lists), generator=torch.Generator().manual_seed(seed))
    owner = lists[order].numpy()
    scores = pd.DataFrame({"before": before[order].numpy(), "after": after[order].numpy()})
    first = scores.groupby(owner).rank(method="first", ascending=False) <= k
    shared = first.all(axis=1).groupby(owner).agg(["sum", "size"])
    return float(shared["sum"][shared["size"] > k].mean()) / k


def _of_catalogue(pair: ModelPair, column: int) -> float:
    large, small = (
        first_places(model, pair.dataset, pair.name, column, TOP)
        for model in (pair.large, pair.small)
    )
    long = (large >= 0).all(1)
    both = (large[long].unsqueeze(2) == small[long].unsqueeze(1)).any(2)
    return both.double().mean().item()

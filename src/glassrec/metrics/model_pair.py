"""The large model and the pruned one: whether they show the same items, and changes of quality.

Changes have intervals by a paired bootstrap: in each draw both models are measured on the same
rows, so that what makes a row hard for both cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isnan

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Schema
from glassrec.metrics.bootstrap import bootstrap, mean
from glassrec.metrics.evaluation import TOP
from glassrec.metrics.pointwise import AUROC, Statistic, ranking_metrics
from glassrec.metrics.quality import predicted, unseen_rows
from glassrec.metrics.retrieval import each_user, first_places
from glassrec.models.base import Recommender


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
        """(N, K) float64 of each model in the first process; see `predicted`."""
        return predicted(self.large, self.split), predicted(self.small, self.split)


def agreement(pair: ModelPair, *, seed: int = 0) -> dict[str, float]:
    """`top10_agreement`: of the large model's first ten of a list, the share in the small one's.

    It is a mean over lists of more than ten; without any, there is no such metric. For a retrieval
    a list is all items that a user can be shown. Otherwise it is a ranking list of the split; where
    there are none, all rows of a user seen in training; in data without users, all rows. Names
    begin with `task/` where there are several tasks. Rows of equal logit are in a random order,
    fixed by `seed`: the same for both models, so that equal models agree.
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


def metric_changes(pair: ModelPair, *, seed: int = 0) -> dict[str, float]:
    """The changes of the primary metrics, the small model's minus the large one's.

    For clicks `auroc_change`, `accuracy_change` and `log_loss_change`, with ranking lists
    `hr@10_change` and `ndcg@10_change` instead; for ratings `rmse_change` and
    `mae_change`; for retrieval `recall@10_change` and `ndcg@10_change`. Each has its 95 % interval
    beside it: `auroc_change_low` to `auroc_change_high`, the percentiles of the draws in which the
    metric is defined. Names begin with `task/` where there are several tasks.
    """
    found: dict[str, float] = {}
    for column, target in enumerate(pair.schema.targets if pair.dataset.labelled else ()):
        kinds = {"click": _of_clicks, "rating": _of_ratings, "retrieval": _of_retrieval}
        units, by_metric = kinds[target.kind](pair, column)
        for metric, three in bootstrap(by_metric, units, seed).items():
            name = pair.schema.metric(target, f"{metric}_change")
            found |= dict(zip((name, f"{name}_low", f"{name}_high"), three, strict=True))
    return found


def _of_clicks(pair: ModelPair, column: int) -> tuple[int, dict[str, Statistic]]:
    before, after, target, query = _columns(pair, column)
    label = target == 1
    if query is not None:
        ranks = [ranking_metrics(score, label, query) for score in (before, after)]
        differences = {name: ranks[1][name] - ranks[0][name] for name in ranks[0]}
        lists = len(next(iter(differences.values())))
        return lists, {name: mean(each) for name, each in differences.items()}
    losses = [
        F.binary_cross_entropy_with_logits(score, target, reduction="none")
        for score in (before, after)
    ]
    # So that both models' sorted order is about the order in memory.
    order = before.argsort()
    areas = [AUROC(score[order], label[order]).weighted() for score in (before, after)]
    right = [((score >= 0) == label)[order].double() for score in (before, after)]
    return len(label), {
        "auroc": lambda weights: areas[1](weights) - areas[0](weights),
        "accuracy": mean(right[1] - right[0]),
        "log_loss": mean((losses[1] - losses[0])[order]),
    }


def _of_ratings(pair: ModelPair, column: int) -> tuple[int, dict[str, Statistic]]:
    before, after, target, query = _columns(pair, column)
    errors = [(score - target).abs() for score in (before, after)]
    absolute, counts = _by_list(errors[1] - errors[0], query)
    squares = [_by_list(error.square(), query)[0] for error in errors]
    roots = [mean(each, counts) for each in squares]
    return len(counts), {
        "rmse": lambda weights: roots[1](weights).sqrt() - roots[0](weights).sqrt(),
        "mae": mean(absolute, counts),
    }


def _of_retrieval(pair: ModelPair, column: int) -> tuple[int, dict[str, Statistic]]:
    models = pair.large, pair.small
    before, after = (each_user(model, pair.dataset, pair.name, column) for model in models)
    metrics = ("recall@10", "ndcg@10")
    return len(before[metrics[0]]), {name: mean(after[name] - before[name]) for name in metrics}


def _columns(pair: ModelPair, column: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    before, after = (logits[:, column] for logits in pair.logits)
    return before, after, pair.split.batch.targets[:, column].double(), pair.split.query


def _by_list(values: Tensor, query: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sums (L,) of rows' values (N,), and the numbers of rows, by list; else by row."""
    if query is None:
        return values, torch.ones_like(values)
    _, owner = query.unique_consecutive(return_inverse=True)
    counts = owner.bincount().double()
    return torch.zeros_like(counts).index_add(0, owner, values), counts

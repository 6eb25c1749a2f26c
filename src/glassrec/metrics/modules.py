"""The metrics as `torchmetrics.Metric`: for a training loop, for several devices, or by themselves.

Ranks need all rows at once: states are the rows themselves, in float64, gathered over all devices.
It is a module of its own because torchmetrics takes seconds to import.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from glassrec.metrics.pointwise import (
    AUROC,
    probability_metrics,
    ranking_metrics,
    rating_metrics,
)
from glassrec.metrics.retrieval import retrieval_metrics


class RowMetric(Metric):
    """A metric of all rows together; `states` names the tensors of each row."""

    states: tuple[str, ...] = ("scores", "targets")
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in self.states:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, *tensors: Tensor) -> None:
        """Take in more rows: a tensor for each of `states`, equal in their first dimension."""
        for name, tensor in zip(self.states, tensors, strict=True):
            number = tensor.double() if tensor.is_floating_point() else tensor
            getattr(self, name).append(number)

    def rows(self) -> list[Tensor]:
        """All rows so far, one tensor for each of `states`."""
        return [dim_zero_cat(getattr(self, name)) for name in self.states]


class ClickMetrics(RowMetric):
    """`auroc` with its interval, `log_loss`, `ece` and others of logits (N,) and labels (N,).

    Examples:
        >>> metric = ClickMetrics()
        >>> metric.update(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1, 0, 0]))
        >>> metric.compute()["auroc"].item()
        1.0
    """

    def compute(self) -> dict[str, Tensor]:
        """The metrics by name."""
        score, target = self.rows()
        area, low, high = AUROC(score, target == 1).with_interval()
        found = {"auroc": area, "auroc_low": low, "auroc_high": high}
        return _tensors(found | probability_metrics(score, target == 1))


class RankingListMetrics(RowMetric):
    """`hr@k` and `ndcg@k` of scores (N,), labels (N,) and ranking lists (N,), with exact ties.

    Examples:
        >>> metric = RankingListMetrics(k=1)
        >>> metric.update(torch.zeros(2), torch.tensor([1, 0]), torch.tensor([7, 7]))
        >>> metric.compute()["hr@1"].item()
        0.5
    """

    states = ("scores", "targets", "queries")

    def __init__(self, k: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        """The means over lists by name; ValueError if a list has not exactly one row of label 1."""
        score, target, query = self.rows()
        order = query.argsort(stable=True)  # several devices, or batches, may share a list
        lists = ranking_metrics(score[order], target[order] == 1, query[order], self.k)
        return {name: values.mean() for name, values in lists.items()}


class RetrievalMetrics(RowMetric):
    """`recall@k`, `ndcg@k` and `hr@k` of scores (U, n) and items to find (U, n), with exact ties.

    Users without an item to find do not count; items with a score of −inf are in no list.

    Examples:
        >>> metric = RetrievalMetrics()
        >>> metric.update(torch.arange(12.0).view(1, 12), torch.eye(1, 12, dtype=torch.bool))
        >>> metric.compute()["recall@10"].item()
        0.0
    """

    def compute(self) -> dict[str, Tensor]:
        """The means over users by name."""
        scores, wanted = self.rows()
        counts = wanted.sum(1)
        some = counts > 0
        found = retrieval_metrics(scores[some], wanted[some] == 1, counts[some])
        return {name: values.mean() for name, values in found.items()}


class RatingMetrics(RowMetric):
    """`rmse`, `mae` and `bias` of estimates (N,) and ratings (N,).

    Examples:
        >>> metric = RatingMetrics()
        >>> metric.update(torch.tensor([3.0, 5.0]), torch.tensor([4.0, 5.0]))
        >>> metric.compute()["mae"].item()
        0.5
    """

    def compute(self) -> dict[str, Tensor]:
        """The metrics by name."""
        return _tensors(rating_metrics(*self.rows()))


def _tensors(found: dict[str, float]) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}

"""The torchmetrics classes: in batches they give the numbers of the functions on all rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.retrieval import RetrievalNormalizedDCG, RetrievalRecall

from glassrec.metrics.modules import (
    ClickMetrics,
    RankingListMetrics,
    RatingMetrics,
    RetrievalMetrics,
)


def _numbers(found: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in found.items()}


def test_clicks_and_ratings_in_batches_agree_with_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    score = torch.tensor(rng.normal(size=300), dtype=torch.float32)
    label = torch.tensor(rng.random(300) < 0.3).long()
    metric = ClickMetrics()
    for start in range(0, 300, 64):
        metric.update(score[start : start + 64], label[start : start + 64])
    found = _numbers(metric.compute())
    assert found["auroc"] == pytest.approx(binary_auroc(score, label).item(), abs=1e-6)
    assert found["auroc_low"] < found["auroc"] < found["auroc_high"]
    ratings = MetricCollection([RatingMetrics()])
    ratings.update(score, label.float())
    mine = ratings.compute()
    for name, theirs in (("rmse", MeanSquaredError(squared=False)), ("mae", MeanAbsoluteError())):
        theirs.update(score, label.float())
        assert mine[name].item() == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_a_list_may_lie_in_several_batches_and_ties_count_in_expectation() -> None:
    metric = RankingListMetrics()
    for part in torch.arange(200).split(30):
        metric.update(torch.zeros(len(part)), (part % 100 == 3).long(), part // 100)
    found = _numbers(metric.compute())
    assert found["hr@10"] == pytest.approx(0.1)
    assert found["ndcg@10"] == pytest.approx(0.045436, abs=1e-6)
    metric.update(torch.zeros(1), torch.zeros(1, dtype=torch.long), torch.tensor([7]))
    with pytest.raises(ValueError, match="list 7 has 0"):
        metric.compute()


def test_retrieval_agrees_with_torchmetrics_where_nothing_is_tied() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(20, 50, generator=generator)
    wanted = torch.rand(20, 50, generator=generator) < 0.1
    metric, users = RetrievalMetrics(), torch.arange(20).repeat_interleave(50)
    metric.update(scores[:7], wanted[:7])
    metric.update(scores[7:], wanted[7:])
    found = _numbers(metric.compute())
    for name, theirs in (
        ("recall@10", RetrievalRecall(empty_target_action="skip", top_k=10)),
        ("ndcg@10", RetrievalNormalizedDCG(empty_target_action="skip", top_k=10)),
    ):
        expected = theirs(scores.flatten(), wanted.flatten(), users)
        assert found[name] == pytest.approx(expected.item(), abs=1e-6)

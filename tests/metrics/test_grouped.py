"""GAUC, MRR and MAP of users against scikit-learn, torchmetrics and all orders of ties."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.retrieval import RetrievalMAP, RetrievalMRR

from glassrec.metrics.grouped import grouped_metrics


def _rows(levels: int, rows: int = 400, users: int = 40):
    rng = np.random.default_rng(levels)
    score = torch.from_numpy(rng.integers(0, levels, rows) / levels)
    return (
        score,
        torch.from_numpy(rng.random(rows) < 0.3),
        torch.from_numpy(rng.integers(0, users, rows)),
    )


@pytest.mark.parametrize("levels", [3, 10**9])
def test_gauc_is_the_weighted_mean_of_areas_by_scikit_learn(levels):
    score, label, user = _rows(levels)
    values, weights = grouped_metrics(score, label, user)["gauc"]
    expected, both = {}, []
    for each in user.unique().tolist():
        chosen = user == each
        if 0 < label[chosen].sum() < chosen.sum():
            expected[each] = roc_auc_score(label[chosen], score[chosen])
            both.append((int(chosen.sum()), expected[each]))
    assert {k: v for k, v in enumerate(values.tolist()) if not math.isnan(v)} == pytest.approx(
        expected
    )
    rows, areas = np.array(both).T
    known = ~values.isnan()
    mean = (values * weights)[known].sum() / weights[known].sum()
    assert mean.item() == pytest.approx((rows * areas).sum() / rows.sum())


def test_mrr_and_map_without_ties_are_those_of_torchmetrics_and_scikit_learn():
    score, label, user = _rows(10**9)
    found = grouped_metrics(score, label, user)
    for name, metric in (("mrr", RetrievalMRR), ("map", RetrievalMAP)):
        expected = metric(empty_target_action="skip")(score, label, indexes=user)
        assert found[name][0].nanmean().item() == pytest.approx(expected.item(), abs=1e-6)
    one = user == user[label][0]
    assert found["map"][0][user[one][0]].item() == pytest.approx(
        average_precision_score(label[one], score[one])
    )


@pytest.mark.parametrize(
    ("score", "label"),
    [([1, 1, 1, 1], [1, 0, 0, 0]), ([1, 1, 1, 1, 1], [1, 0, 1, 0, 1]), ([2, 1, 1, 1], [0, 1, 1, 0]),
     ([2, 2, 1, 1, 0], [0, 1, 1, 0, 1]), ([3, 2, 2, 2], [1, 1, 0, 0])],
)  # fmt: skip
def test_ties_have_the_mean_over_all_orders(score, label):
    scores, labels, precisions, inverses = np.array(score), np.array(label), [], []
    for order in map(list, permutations(range(len(score)))):
        ranked = scores[order]
        if (np.diff(ranked) > 0).any():
            continue
        places = np.flatnonzero(labels[order]) + 1
        precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
        inverses.append(1 / places[0])
    found = grouped_metrics(
        torch.tensor(score).double(), torch.tensor(label) == 1, torch.zeros(len(score)).long()
    )
    assert found["map"][0].item() == pytest.approx(np.mean(precisions), rel=1e-12)
    assert found["mrr"][0].item() == pytest.approx(np.mean(inverses), rel=1e-12)


def test_items_in_no_list_count_as_missed_and_users_without_any_do_not():
    score, label = torch.tensor([2.0, 1.0, 1.0]).double(), torch.tensor([True, False, False])
    counts = torch.tensor([2, 1, 0])
    found = grouped_metrics(score, label, torch.tensor([0, 1, 2]), counts)
    assert found["map"][0].tolist()[:2] == [0.5, 0]
    assert found["mrr"][0].tolist()[:2] == [1, 0]
    assert found["map"][0][2].isnan()
    assert found["mrr"][0][2].isnan()

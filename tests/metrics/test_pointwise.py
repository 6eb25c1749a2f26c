"""Click metrics against brute force, scikit-learn, torchmetrics and the bootstrap."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.retrieval import RetrievalHitRate, RetrievalNormalizedDCG

from glassrec.metrics.pointwise import click_metrics


def measured(scores, labels, query=None, k=10):
    score, target = (torch.as_tensor(values, dtype=torch.float32) for values in (scores, labels))
    query = None if query is None else torch.as_tensor(query)
    return click_metrics(score.double(), target.double(), query, k)


def ragged_lists(lists, levels, seed=0):
    """Scores of few levels, hence with ties; one positive at a random place of each list."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, lists)
    query = np.repeat(np.sort(rng.choice(10 * lists, lists, replace=False)), sizes)
    labels = np.concatenate([np.eye(size)[rng.integers(size)] for size in sizes])
    return rng.integers(0, levels, len(query)).astype(float), labels, query


@pytest.mark.parametrize("levels", [3, 50, 10**6])
def test_pointwise_metrics_agree_with_scikit_learn_and_torchmetrics(levels):
    rng = np.random.default_rng(levels)
    labels = rng.random(4000) < 0.2
    scores = ((rng.integers(0, levels, 4000) / levels + 0.3 * labels) * 4 - 2).astype(np.float32)
    found = measured(scores, labels)
    probabilities = 1 / (1 + np.exp(-scores.astype(float)))
    rate = labels.mean()
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    log_loss = sk.log_loss(labels, probabilities)
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    torchmetrics = binary_auroc(torch.tensor(scores), torch.tensor(labels).long())
    assert found["auroc"] == pytest.approx(torchmetrics.item(), abs=1e-6)
    assert found["log_loss"] == pytest.approx(log_loss, abs=1e-12)
    assert found["normalized_entropy"] == pytest.approx(log_loss / entropy, abs=1e-12)
    accuracy = sk.accuracy_score(labels, probabilities >= 0.5)
    assert found["accuracy"] == pytest.approx(accuracy, abs=1e-12)


def test_calibration_error_agrees_with_scikit_learn_in_bins_of_equally_many():
    rng = np.random.default_rng(6)
    scores = rng.normal(-1, 1.5, 1500).astype(np.float32)
    labels = rng.random(1500) < 1 / (1 + np.exp(0.5 - 0.6 * scores))
    probabilities = 1 / (1 + np.exp(-scores.astype(float)))
    rates, means = calibration_curve(labels, probabilities, n_bins=15, strategy="quantile")
    found = measured(scores, labels)
    assert found["ece"] == pytest.approx(np.abs(rates - means).mean(), abs=1e-12)
    assert found["calibration"] == pytest.approx(probabilities.mean() / labels.mean(), abs=1e-12)


def test_calibration_error_does_not_depend_on_the_order_of_equal_scores():
    rng = np.random.default_rng(7)
    scores, labels = rng.integers(-2, 3, 200), rng.random(200) < 0.3
    order = np.argsort(labels)
    assert measured(scores, labels)["ece"] == measured(scores[order], labels[order])["ece"]
    # One probability for all: the error is how far it is from the click rate of all.
    assert measured([0] * 40, [1] * 8 + [0] * 32)["ece"] == pytest.approx(0.3, abs=1e-12)
    assert measured([0] * 3, [1, 0, 1])["ece"] == pytest.approx(1 / 6, abs=1e-12)


def test_delong_variance_is_that_of_the_pairwise_definition():
    rng = np.random.default_rng(1)
    positive, negative = rng.integers(2, 9, 40) / 4, rng.integers(0, 7, 60) / 4
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    area = wins.mean()
    variance = wins.mean(1).var(ddof=1) / 40 + wins.mean(0).var(ddof=1) / 60
    reach = 1.959963984540054 * math.sqrt(variance) / (area * (1 - area))
    centre = math.log(area / (1 - area))
    scores, labels = np.concatenate([positive, negative]), [1] * 40 + [0] * 60
    found = measured(scores, labels)
    assert found["auroc"] == pytest.approx(area, abs=1e-12)
    assert found["auroc_low"] == pytest.approx(1 / (1 + math.exp(reach - centre)), abs=1e-12)
    assert found["auroc_high"] == pytest.approx(1 / (1 + math.exp(-reach - centre)), abs=1e-12)


def test_auroc_interval_agrees_with_the_bootstrap():
    rng = np.random.default_rng(2)
    labels = rng.random(800) < 0.3
    scores = (rng.normal(size=800) + labels).astype(np.float32)
    draws = []
    for _ in range(1000):
        rows = rng.integers(0, 800, 800)
        draws.append(sk.roc_auc_score(labels[rows], scores[rows]))
    found = measured(scores, labels)
    low, high = np.percentile(draws, [2.5, 97.5])
    assert found["auroc_low"] == pytest.approx(low, abs=0.006)
    assert found["auroc_high"] == pytest.approx(high, abs=0.006)


def test_auroc_interval_covers_the_truth_as_often_as_it_claims():
    rng = np.random.default_rng(3)
    truth = 0.5 * (1 + math.erf(1 / 2))  # two unit normals, one apart
    labels = np.arange(150) < 50
    covered = 0
    for _ in range(600):
        found = measured(rng.normal(size=150) + labels, labels)
        covered += found["auroc_low"] <= truth <= found["auroc_high"]
    assert 0.92 < covered / 600 < 0.98


def test_equal_scores_of_100_candidates_give_chance():
    lists = 7
    labels = np.tile(np.eye(100)[0], lists)
    query = np.repeat(np.arange(lists), 100)
    found = measured(torch.zeros(700), labels, query)
    assert found["hr@10"] == pytest.approx(0.1, abs=1e-12)
    assert found["ndcg@10"] == pytest.approx(0.045436, abs=1e-6)
    assert found["auroc"] == found["auroc_low"] == found["auroc_high"] == 0.5


@pytest.mark.parametrize("scores", [[1, 1, 0, 1], [0, 1, 1, 2], [2, 2, 2, 2], [3, 1, 2, 0]])
@pytest.mark.parametrize("k", [1, 2, 3, 10])
def test_ties_count_as_the_mean_over_all_orders(scores, k):
    hits, gains = [], []
    for order in permutations(range(4)):
        ranked = sorted(order, key=lambda row: -scores[row])  # stable: ties stay in random order
        place = ranked.index(0)
        hits.append(place < k)
        gains.append((place < k) / math.log2(place + 2))
    found = measured(scores, [1, 0, 0, 0], [5, 5, 5, 5], k=k)
    assert found[f"hr@{k}"] == pytest.approx(np.mean(hits), abs=1e-12)
    assert found[f"ndcg@{k}"] == pytest.approx(np.mean(gains), abs=1e-12)


def test_ndcg_with_ties_agrees_with_scikit_learn_on_ragged_lists():
    scores, labels, query = ragged_lists(lists=200, levels=4)
    expected = []
    for name in np.unique(query):
        rows = query == name
        if rows.sum() == 1:
            expected.append(1.0)  # scikit-learn refuses a list of one
        else:
            expected.append(sk.ndcg_score(labels[None, rows], scores[None, rows], k=10))
    found = measured(scores, labels, query)
    assert found["ndcg@10"] == pytest.approx(np.mean(expected), abs=1e-12)


def test_ranking_without_ties_agrees_with_torchmetrics_on_ragged_lists():
    scores, labels, query = ragged_lists(lists=200, levels=2)
    scores = np.random.default_rng(4).permutation(len(scores)) / len(scores) + labels / 3
    found = measured(scores, labels, query)
    for name, metric in {"hr@10": RetrievalHitRate, "ndcg@10": RetrievalNormalizedDCG}.items():
        peer = metric(top_k=10)
        peer.update(
            torch.as_tensor(scores, dtype=torch.float32),
            torch.tensor(labels).long(),
            torch.tensor(query),
        )
        assert found[name] == pytest.approx(peer.compute().item(), abs=1e-6)


def test_row_by_row_splits_have_no_ranking_metrics():
    assert not any("@" in name for name in measured([1, 0], [1, 0]))


def test_one_class_leaves_auroc_and_normalized_entropy_undefined_and_the_rest_defined():
    found = measured([1, -1], [0, 0])
    undefined = {name for name, value in found.items() if math.isnan(value)}
    assert undefined == {
        "auroc", "auroc_low", "auroc_high", "normalized_entropy", "calibration"
    }  # fmt: skip
    assert found["accuracy"] == 0.5
    assert measured([1, -1], [1, 1])["calibration"] == pytest.approx(0.5)


def test_one_row_of_a_class_says_nothing_about_the_variance():
    found = measured([1, 0, 2], [1, 0, 0])
    assert (found["auroc"], found["auroc_low"], found["auroc_high"]) == (0.5, 0, 1)


def test_separated_classes_have_an_interval_of_one_point():
    found = measured([3, 2, 1, 0], [1, 1, 0, 0])
    assert (found["auroc"], found["auroc_low"], found["auroc_high"]) == (1, 1, 1)


def test_a_label_between_the_classes_is_refused_with_its_row():
    with pytest.raises(ValueError, match=r"0 or 1; found 0\.5 at row 2"):
        measured([0, 0, 0], [1, 0, 0.5])


@pytest.mark.parametrize(("labels", "count"), [([1, 0, 0, 0], 0), ([1, 0, 1, 1], 2)])
def test_a_list_without_exactly_one_positive_is_refused_by_name(labels, count):
    with pytest.raises(ValueError, match=f"list 9 has {count}"):
        measured(torch.zeros(4), labels, [4, 4, 9, 9])


def test_probabilities_are_not_judged_on_sampled_candidates():
    """Their share of clicks is that of the sampling, so whatever depends on it says nothing."""
    scores, labels, query = ragged_lists(lists=20, levels=50)
    assert {*measured(scores, labels, query)} == {
        "auroc", "auroc_low", "auroc_high", "hr@10", "ndcg@10"
    }  # fmt: skip
    assert {"log_loss", "normalized_entropy", "accuracy", "calibration", "ece"} <= {
        *measured(scores, labels)
    }

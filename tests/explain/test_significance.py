"""Permutation tests on features that are known to do nothing, and corrections against scipy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor

from glassrec.explain.evaluation.significance import (
    PairedSwap,
    benjamini_hochberg,
    permuted_features,
    permuted_labels,
)

ROWS = 300
LIVE = 3
DEAD = 9


def _normal(seed: int, rows: int = ROWS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, LIVE + DEAD, generator=generator).double()


def _clicks(logits: Tensor, seed: int) -> Tensor:
    return torch.bernoulli(logits.sigmoid(), generator=torch.Generator().manual_seed(seed))


def _exchange(function: Callable[[Tensor], Tensor], columns: Tensor) -> PairedSwap:
    """Rows 0 and 1, 2 and 3, ... are pairs."""
    rows = torch.arange(len(columns)).view(-1, 2).T
    exchanged = []
    for feature in range(columns.shape[1]):
        changed = columns.clone()
        changed[rows, feature] = columns[rows.flip(0), feature]
        exchanged.append(function(changed)[rows])
    return PairedSwap(rows, function(columns)[rows], torch.stack(exchanged, 2))


def _model(columns: Tensor) -> Tensor:
    """It uses the dead columns as if they said something, alone and beside a live one."""
    return 1.5 * columns.sum(1) - columns[:, :LIVE].sum(1) * columns[:, -1]


def _by_labels(seed: int) -> pd.DataFrame:
    columns = _normal(seed)
    clicks = _clicks(columns[:, :LIVE].sum(1), seed + 10_000)
    return permuted_labels(columns, clicks, draws=199, seed=seed)


def _by_features(seed: int) -> pd.DataFrame:
    columns = _normal(seed)
    clicks = _clicks(2 * columns[:, :LIVE].sum(1), seed + 10_000)
    return permuted_features(_exchange(_model, columns), clicks, "click", draws=199, seed=seed)


@pytest.mark.parametrize("test", [_by_labels, _by_features])
def test_dead_features_have_uniform_p_values_and_live_ones_are_found(
    test: Callable[[int], pd.DataFrame],
) -> None:
    frames = [test(seed) for seed in range(60)]
    dead = np.concatenate([frame["p_value"][LIVE:] for frame in frames])
    # P-values are multiples of 1/200; spread evenly, they are continuous.
    dead -= np.random.default_rng(0).random(len(dead)) / 200
    assert stats.kstest(dead, "uniform").pvalue > 0.01
    live = pd.concat([frame[:LIVE] for frame in frames])
    assert (live["q_value"] < 0.1).mean() > 0.9


@pytest.mark.parametrize("test", [_by_labels, _by_features])
def test_the_share_of_false_discoveries_stays_below_the_level(
    test: Callable[[int], pd.DataFrame],
) -> None:
    shares = []
    for seed in range(100, 200):
        found = test(seed)["q_value"] <= 0.2
        shares.append(found[LIVE:].sum() / max(found.sum(), 1))
    # The expected share is .2 · 9/12; the mean of 100 has a standard error of about .015.
    assert 0.05 < np.mean(shares) < 0.2


def test_p_values_of_labels_against_numpy_one_draw_at_a_time() -> None:
    columns, labels = _normal(0, rows=20), _normal(1, rows=20)[:, 0]
    found = permuted_labels(columns, labels, draws=120, seed=4)
    generator = torch.Generator().manual_seed(4)

    def covariance(truth: Tensor) -> np.ndarray:
        return np.array([abs(np.cov(column, truth)[0, 1]) for column in columns.T])

    observed = covariance(labels)
    draws = [covariance(labels[torch.randperm(20, generator=generator)]) for _ in range(120)]
    expected = (1 + (np.array(draws) >= observed).sum(0)) / 121
    np.testing.assert_allclose(found["p_value"], expected)


def test_p_values_of_features_against_every_choice_of_signs() -> None:
    columns = _normal(3, rows=16)
    clicks = _clicks(columns[:, 0], 5)
    exchange = _exchange(_model, columns)
    found = permuted_features(exchange, clicks, "click", draws=20_000, seed=0)

    def loss(logits: Tensor) -> Tensor:
        truth = clicks[exchange.rows].view(2, 8, *[1] * (logits.ndim - 2))
        return -(truth * logits.sigmoid().log() + (1 - truth) * (-logits).sigmoid().log())

    increase = (loss(exchange.swapped) - loss(exchange.logits).unsqueeze(2)).sum(0)
    signs = 2.0 * ((torch.arange(256).unsqueeze(1) >> torch.arange(8)) & 1).double() - 1
    expected = (signs @ increase >= increase.sum(0) - 1e-9).double().mean(0)
    np.testing.assert_allclose(found["p_value"], expected, atol=0.02)


def test_a_rating_is_judged_by_its_squared_error() -> None:
    columns = _normal(0)
    exchange = _exchange(lambda x: 4 + x[:, 0] + 0.1 * x[:, 1], columns)
    found = permuted_features(exchange, 4 + columns[:, 0], "rating", draws=199, seed=0)
    assert found["p_value"][0] == 1 / 200
    assert found["p_value"][1] > 0.05
    assert (found["p_value"][2:] == 1).all()  # the model does not read them


def test_the_loss_of_a_retrieval_is_refused() -> None:
    exchange = _exchange(_model, _normal(0, rows=4))
    with pytest.raises(ValueError, match="a retrieval has no loss of a single row"):
        permuted_features(exchange, torch.ones(4), "retrieval", draws=9, seed=0)


def test_what_is_constant_is_not_significant() -> None:
    columns = torch.full((50, 2), 0.1)
    labels = _normal(0, rows=50)[:, 0]
    assert (permuted_labels(columns, labels, draws=99, seed=0) == 1).all(axis=None)
    of_one_label = permuted_labels(_normal(0, rows=50), torch.full((50,), 0.3), draws=99, seed=0)
    assert (of_one_label == 1).all(axis=None)


def test_labels_do_not_tell_a_useless_feature_from_one_that_follows_a_useful_one() -> None:
    columns = _normal(0, rows=3000)
    clicks = _clicks(columns[:, 0], 1)
    parts = torch.stack([columns[:, 0], (1 + 0.1 * columns[:, 5]) * columns[:, 0]], 1)
    assert (permuted_labels(parts, clicks, draws=99, seed=0)["p_value"] == 0.01).all()
    exchange = _exchange(lambda x: x[:, 0] * (2 + 0.1 * x[:, 5]), columns)
    found = permuted_features(exchange, clicks, "click", draws=99, seed=0)["p_value"]
    assert found[0] == 0.01
    assert found[5] > 0.05


def test_q_values_equal_scipys() -> None:
    p = torch.rand(50, generator=torch.Generator().manual_seed(0)).double() ** 3
    p[:10] = p[10:20]  # ties
    for values in (p, p[:1], torch.ones(4).double()):
        expected = stats.false_discovery_control(values.numpy())
        np.testing.assert_allclose(benjamini_hochberg(values), expected, rtol=1e-12)

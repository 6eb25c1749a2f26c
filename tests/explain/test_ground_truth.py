"""Marks against counting by hand, and what the generated data's own effects are marked with."""

from __future__ import annotations

from itertools import permutations
from math import isnan, sqrt

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from glassrec.data.dataset import GroundTruth
from glassrec.data.planted import CONTEXTS, DENSE, MAIN, PAIRS, Planted
from glassrec.explain.evaluation.significance import (
    RankingMetrics,
    score,
    score_features,
    score_main,
    score_pairs,
    true_importance,
)

TRUTH = GroundTruth({"a": 2.0, "b": 1.0}, {("a", "c"): 1.0, ("b", "c"): 0.5})


def test_a_shapley_value_deviates_by_its_main_effect_and_half_of_its_pairs() -> None:
    found = true_importance(TRUTH, ["a", "b", "c", "dead"])
    assert found.tolist() == pytest.approx(
        [sqrt(4 + 1 / 4), sqrt(1 + 1 / 16), sqrt(1 / 4 + 1 / 16), 0]
    )
    # A feature that is not explained leaves the others as they are.
    assert true_importance(TRUTH, ["c"]).tolist() == [found["c"]]


def test_the_true_importance_is_that_of_the_generated_logits() -> None:
    names = ["user", "item", *CONTEXTS, *DENSE]
    _, effects = Planted(rows=50_000).generate()
    shapley = pd.DataFrame(0.0, range(50_000), names)
    for key, effect in effects.items():
        for name in [key] if isinstance(key, str) else key:
            shapley[name] += effect if isinstance(key, str) else effect / 2
    expected = true_importance(GroundTruth(MAIN, PAIRS), names)
    # The effects of a finite sample are not quite independent.
    np.testing.assert_allclose(shapley.std(), expected, rtol=0.03)


def test_marks_of_features() -> None:
    right = pd.Series({"dead": 0.1, "c": 0.4, "a": 9.0, "b": 3.0})
    assert score_features(right, TRUTH) == RankingMetrics(1.0, 1.0)
    wrong = pd.Series({"dead": 5.0, "c": 0.4, "a": 9.0, "b": 3.0})
    found = score_features(wrong, TRUTH)
    assert found.precision == pytest.approx(2 / 3)
    truth = true_importance(TRUTH, list(wrong.index))
    assert found.correlation == pytest.approx(stats.somersd(truth, wrong).statistic)


def test_a_main_effect_is_not_one_that_needs_a_partner() -> None:
    strength = pd.Series({"dead": 0.0, "c": 1.5, "a": 9.0, "b": 1.0})
    assert score_main(strength, TRUTH).precision == 0.5
    assert score_features(strength, TRUTH).precision == 1.0
    assert score_main(strength.drop("c"), TRUTH).precision == 1.0


@pytest.mark.parametrize("turned", [False, True])
def test_marks_of_pairs_in_either_order(turned: bool) -> None:
    values = {("a", "b"): 0.2, ("a", "c"): 3.0, ("b", "c"): 1.0, ("c", "dead"): 0.1}
    found = pd.Series({key[::-1] if turned else key: value for key, value in values.items()})
    assert score_pairs(found, TRUTH) == RankingMetrics(1.0, 1.0)
    found.iloc[0] = 2.0
    assert score_pairs(found, TRUTH).precision == 0.5


def test_the_correlation_equals_scipys() -> None:
    random = np.random.default_rng(0)
    true = pd.Series(np.maximum(random.integers(-5, 5, 40), 0))
    found = pd.Series(random.integers(0, 8, 40)) + true
    expected = stats.somersd(true, found).statistic
    assert 0 < expected < 1
    assert score(found, true).correlation == pytest.approx(expected)


def test_precision_under_ties_is_the_mean_over_their_orders() -> None:
    values, true = pd.Series([3.0, 1, 1, 1, 0]), pd.Series([0.0, 5, 0, 5, 5])
    precisions = []
    for order in permutations(range(5)):
        ranked = sorted(order, key=lambda i: -values[i])  # stable: ties stay in this order
        precisions.append((true[ranked[:3]] > 0).mean())
    assert score(values, true).precision == pytest.approx(np.mean(precisions))


def test_without_effects_there_is_nothing_to_mark() -> None:
    found = score_features(pd.Series({"x": 1.0, "y": 2.0}), TRUTH)
    assert isnan(found.precision)
    assert isnan(found.correlation)
    assert isnan(score_features(pd.Series({"a": 1.0}), TRUTH).correlation)

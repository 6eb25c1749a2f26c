from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from glassrec.data.planted import CONTEXTS, MAIN, PAIRS, Planted, probabilities


@pytest.fixture(scope="module")
def generated():
    return Planted().generate()


@pytest.fixture(scope="module")
def data():
    return Planted(rows=5000).load(seed=0)


def test_the_best_possible_auc_is_about_85_and_three_in_ten_click(generated):
    frame, effects = generated
    auc = roc_auc_score(frame["click"], probabilities(effects))
    assert 0.84 < auc < 0.86
    assert 0.28 < frame["click"].mean() < 0.32


def test_clicks_follow_their_probabilities(generated):
    frame, effects = generated
    expected = probabilities(effects)
    order = np.argsort(expected).reshape(20, -1)
    clicked, mean = (values[order].mean(axis=1) for values in (frame["click"].to_numpy(), expected))
    np.testing.assert_allclose(clicked, mean, atol=4 * np.sqrt(0.25 / order.shape[1]))


def test_the_strength_of_an_effect_is_its_deviation_over_the_rows(generated):
    _, effects = generated
    for name, strength in (MAIN | PAIRS).items():
        assert effects[name].std() == pytest.approx(strength)


def test_strengths_are_far_enough_apart_to_be_ranked():
    for table in (MAIN, PAIRS):
        ranked = sorted(table.values())
        assert min(b / a for a, b in pairwise(ranked)) > 1.3


def share_explained(effect, column):
    """The share of the variance of an effect that the means over groups of a column explain."""
    groups = column if column.nunique() < 200 else pd.qcut(column, 10)
    return effect.groupby(groups, observed=True).transform("mean").var() / effect.var()


@pytest.mark.parametrize("pair", list(PAIRS))
def test_pair_effects_hold_no_main_effect(generated, pair):
    frame, effects = generated
    for name in pair:
        # By chance alone groups explain (groups - 1) / rows, at most 119 / 60,000.
        assert share_explained(pd.Series(effects[pair]), frame[name]) < 4e-3


def test_dead_columns_are_as_many_as_the_tables_say(data):
    alive = {*data.ground_truth.main, *(name for pair in data.ground_truth.pairs for name in pair)}
    assert set(data.schema.field_names) - alive == {"region", "browser", "weekday"}
    assert set(data.schema.dense) - alive == {"load", "latency"}
    assert alive <= {*data.schema.field_names, *data.schema.dense}


def test_dead_columns_do_nothing(generated):
    frame, effects = generated
    logits = sum(effects.values())
    for name in ("region", "browser", "weekday", "load", "latency"):
        assert share_explained(pd.Series(logits), frame[name]) < 1e-3


def test_rows_are_fixed_by_the_generator_seed_and_the_split_by_the_run_s(data):
    again, other_split = Planted(rows=5000).load(seed=0), Planted(rows=5000).load(seed=1)
    other_rows = Planted(rows=5000, generator_seed=1)
    assert data.train.batch.ids.equal(again.train.batch.ids)
    assert not data.train.batch.ids.equal(other_split.train.batch.ids)
    first, second = (source.generate()[0] for source in (Planted(rows=5000), other_rows))
    assert not first.equals(second)
    assert first.equals(Planted(rows=5000).generate()[0])


def test_the_dataset_has_the_planted_columns_and_shares(data):
    assert data.schema.field_names == ("user", "item", *CONTEXTS)
    assert (data.schema.user, data.schema.item) == ("user", "item")
    assert [split.batch.rows for split in data.splits.values()] == [4000, 500, 500]
    assert not data.ranked
    assert Planted().fingerprint() == {}

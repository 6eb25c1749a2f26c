import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from glassrec.data.columns import Columns, Part, Parts
from glassrec.data.dataset import assemble
from glassrec.data.encoding import MultiValued, Scaler, Vocabulary
from glassrec.data.schema import Target


@pytest.mark.parametrize("kind", ["object", "str", "category"])
def test_ids_count_from_one_and_unseen_values_get_zero(kind):
    train = pd.Series(["pear", "fig", "pear"], dtype=kind)
    known = Vocabulary.fit(train)
    assert known.encode(train).tolist() == [2, 1, 2]
    assert known.encode(pd.Series(["kiwi", "fig", "pear"], dtype=kind)).tolist() == [0, 1, 2]


def test_whole_numbers_keep_their_order():
    known = Vocabulary.fit(pd.Series([10, 9, 100]))
    assert known.encode(pd.Series([9, 10, 100, 11])).tolist() == [1, 2, 3, 0]


def test_categories_absent_from_training_have_no_id():
    column = pd.Series(["a", "b", "c"], dtype="category")
    known = Vocabulary.fit(column[[0, 2]])
    assert known.encode(column).tolist() == [1, 0, 2]


def test_rare_values_share_the_unseen_id():
    known = Vocabulary.fit(pd.Series(list("aabbbc")), min_count=2)
    assert known.encode(pd.Series(list("abc"))).tolist() == [1, 2, 0]


def test_scaling_agrees_with_scikit_learn():
    values = np.random.default_rng(0).gamma(2.0, 30.0, 500)
    expected = StandardScaler().fit(values[:300, None]).transform(values[:, None])[:, 0]
    np.testing.assert_allclose(Scaler.fit(values[:300], log=False).apply(values), expected)


def test_counts_are_clipped_and_logged_first():
    values = np.array([-3.0, 0.0, 7.0, 100.0])
    logged = np.log(np.array([1.0, 1.0, 8.0, 101.0]))
    expected = (logged - logged.mean()) / logged.std()
    np.testing.assert_allclose(Scaler.fit(values, log=True).apply(values), expected)


def test_missing_values_become_the_mean_and_do_not_move_it():
    scaler = Scaler.fit(np.array([1.0, np.nan, 3.0]), log=False)
    np.testing.assert_allclose(scaler.apply(np.array([1.0, np.nan, 3.0])), [-1, 0, 1])


@pytest.mark.parametrize("values", [[0.1] * 3, [np.nan] * 3])
def test_a_column_without_variation_becomes_zero(values):
    scaled = Scaler.fit(np.array(values), log=False).apply(np.array(values))
    np.testing.assert_allclose(scaled, [0] * 3, atol=1e-12)


def test_everything_is_learnt_from_training_rows_only():
    frame = pd.DataFrame({"city": ["rome", "oslo", "lima"], "age": [20.0, 40.0, 100.0]})
    labels = np.array([[0], [1], [1]])
    parts = Parts(*(Part(frame.iloc[rows], labels[rows]) for rows in ([0, 1], [1], [2])))
    columns = Columns(label="click", dense=("age",), categorical=("city",))
    data = assemble(parts, columns)
    assert data.schema.targets == (Target("click"),)
    assert data.schema.fields[0].size == 3
    assert data.train.batch.dense.flatten().tolist() == [-1, 1]
    assert data.test.batch.dense.item() == 7
    assert data.train.batch.ids.flatten().tolist() == [2, 1]
    assert data.test.batch.ids.item() == 0
    assert data.test.batch.targets.item() == 1
    assert data.negatives is None


def test_global_ids_are_rows_of_one_table_and_items_bring_their_side_along():
    train = pd.DataFrame({"who": [1, 1, 2], "what": [7, 8, 9], "brand": ["x", "y", "x"]})
    lists = pd.DataFrame({"who": [2, 2], "what": [8, 7], "brand": ["y", "x"]})
    held = Part(lists, np.array([[1], [0]]), np.array([0, 0]))
    columns = Columns(user="who", item="what", categorical=("brand",), item_side=("brand",))
    data = assemble(Parts(Part(train, np.ones((3, 1))), held, held), columns, negatives=2)
    assert data.schema.offsets == (0, 3, 7)
    assert data.train.batch.ids.tolist() == [[1, 4, 8], [1, 5, 9], [2, 6, 8]]
    assert data.validation.query.tolist() == [0, 0]
    assert data.ranked
    assert data.catalogue.rows.tolist() == [[4, 8], [5, 9], [6, 8]]
    epoch = data.epoch(seed=0, epoch=0)
    assert epoch.rows == 9
    drawn = {tuple(row) for row in epoch.ids[epoch.targets[:, 0] == 0].tolist()}
    assert drawn <= {(1, 6, 8), (2, 4, 8), (2, 5, 9)}
    assert torch.equal(epoch.ids, data.epoch(seed=0, epoch=0).ids)


def _rated(train, *held_out):
    """The data of these training ratings, of one validation and of one test rating."""
    frames = [pd.DataFrame({"stars": each, "city": "rome"}) for each in (train, *held_out)]
    parts = Parts(*(Part(frame, frame[["stars"]].to_numpy()) for frame in frames))
    return assemble(parts, Columns(rating="stars", categorical=("city",)))


def test_a_rating_has_mean_and_deviation_of_the_training_rows():
    (target,) = _rated([2.0, 5.0, 2.0, 3.0], [100.0], [-7.0]).schema.targets
    assert (target.name, target.kind, target.mean) == ("stars", "rating", 3.0)
    assert target.deviation == pytest.approx(math.sqrt(6 / 4), abs=1e-12)


def test_equal_ratings_keep_their_unit():
    assert _rated([0.1] * 3, [0.1], [0.1]).schema.targets[0].deviation == 1


@pytest.mark.parametrize("train", [[1e6, 1e6 + 1], [1e20, 2e20], [1e-20, 2e-20]])
def test_ratings_beyond_single_precision_are_refused(train):
    with pytest.raises(ValueError, match=r"stars: .*another unit"):
        _rated(train, [1.0], [1.0])


@pytest.mark.parametrize(
    ("settings", "column"),
    [({"dense": ("price",)}, "price"), ({"categorical": ("brand",)}, "brand")],
)
def test_a_query_must_not_tell_the_item(settings, column):
    frame = pd.DataFrame({"who": np.arange(40) // 8, "what": np.arange(40) % 9})
    frame = frame.assign(price=frame["what"] * 1.5, brand="b" + (frame["what"] // 2).astype(str))
    part = Part(frame, np.ones((40, 1)))
    columns = Columns(retrieval=True, user="who", item="what", **settings)
    with pytest.raises(ValueError, match=f"{column} follows from what"):
        assemble(Parts(part, part, part), columns)
    declared = Columns(
        retrieval=True, user="who", item="what", categorical=("brand",), item_side=("brand",)
    )
    assert assemble(Parts(part, part, part), declared).schema.item_side == ("what", "brand")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (-np.inf, np.inf)),
        ({"ranges": {"age": (10, 60)}}, (-2, 3)),
        ({"ranges": {"age": (40, 60)}}, (1, 3)),
        ({"ranges": {"age": (40, 60)}, "missing_ok": ("age",)}, (0, 3)),  # the mean is possible
        ({"ranges": {"age": (-np.inf, 60)}}, (-np.inf, 3)),
    ],
)
def test_ranges_are_scaled_as_their_column_is(settings, expected):
    frame = pd.DataFrame({"age": [20.0, 40.0], "price": [1.0, 2.0]})
    part = Part(frame, np.array([0, 1]))
    schema = assemble(Parts(part, part, part), Columns(dense=("price", "age"), **settings)).schema
    assert schema.ranges == ((-np.inf, np.inf), expected)
    assert schema.select(dense=("age",), fields=()).ranges == (expected,)


def test_counts_never_lie_below_a_zero_and_declared_ones_are_logged():
    frame = pd.DataFrame({"views": np.expm1([1.0, 3.0]), "likes": np.expm1([2.0, 4.0])})
    part = Part(frame, np.array([0, 1]))
    columns = Columns(
        dense=("views", "likes"), log=("views", "likes"), ranges={"views": (-5, np.expm1(6.0))}
    )
    ranges = assemble(Parts(part, part, part), columns).schema.ranges
    np.testing.assert_allclose(ranges, [(-2, 4), (-3, np.inf)], rtol=1e-6)


def test_values_of_cells_are_counted_by_row() -> None:
    column = pd.Series(["a|b", "a", "b|c", "a|b", ""], dtype="category")
    fitted = MultiValued.fit(column, min_count=2)
    assert fitted.vocabulary.values.tolist() == ["a", "b"]
    assert fitted.width == 2

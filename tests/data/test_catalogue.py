from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.data.batch import Batch
from glassrec.data.catalogue import Catalogue, Negatives, draw_candidates, ranking_lists
from glassrec.data.columns import Columns
from glassrec.data.schema import Field, Schema

COLUMNS = Columns(
    user="user", item="item", categorical=("brand", "place"), dense=("hour",), item_side=("brand",)
)


def batch_of(ids):
    n = len(ids)
    return Batch(
        torch.arange(n).float().unsqueeze(1),
        torch.tensor(ids),
        torch.arange(2 * n).reshape(n, 2),
        torch.ones(n, 1),
    )


def negatives_of(batch, per_positive):
    """Columns: user, context, item, brand; or user and item alone."""
    names = ("user", "context", "item", "brand") if batch.ids.shape[1] == 4 else ("user", "item")
    fields = tuple(Field(name, 300) for name in names)
    side = names[names.index("item") :]
    schema = Schema(fields=fields, user="user", item="item", item_side=side)
    return Negatives(Catalogue.from_ids(batch, schema), per_positive)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch():
    """Users 1 to 40, a context 50 or 51, items 100 to 129, each of the brand 200 + item % 7."""
    chosen = torch.rand(40, 30, generator=seeded(1)) < 0.6
    return batch_of(
        [[u + 1, 50 + u % 2, 100 + i, 200 + i % 7] for u, i in chosen.nonzero().tolist()]
    )


def test_negatives_follow_their_positives_and_are_never_training_positives(batch):
    negatives = negatives_of(batch, 3)
    augmented = negatives.augment(batch, seeded())
    known = {(u, i) for u, _, i, _ in batch.ids.tolist()}
    drawn = augmented.slice(batch.rows, augmented.rows)

    assert augmented.rows == 4 * batch.rows
    for ours, theirs in zip(augmented.slice(0, batch.rows), batch, strict=True):
        assert torch.equal(ours, theirs)
    assert not known & {(u, i) for u, _, i, _ in drawn.ids.tolist()}
    assert drawn.targets.eq(0).all()


def test_a_negative_differs_from_its_positive_in_the_item_side_only(batch):
    negatives = negatives_of(batch, 3)
    drawn = negatives.augment(batch, seeded()).slice(batch.rows, 4 * batch.rows)
    user, context, item, brand = drawn.ids.T
    assert Counter(zip(user.tolist(), context.tolist(), strict=True)) == Counter(
        {key: 3 * n for key, n in Counter(map(tuple, batch.ids[:, :2].tolist())).items()}
    )
    assert torch.equal(brand, 200 + (item - 100) % 7)
    assert torch.equal(
        drawn.dense.flatten().sort().values, batch.dense.flatten().repeat(3).sort().values
    )
    assert torch.equal(drawn.history[:, 0], 2 * drawn.dense[:, 0].long())


def test_negatives_are_uniform_over_the_items_that_are_left():
    ids = [[0, 10 + i] for i in (0, 3)] + [[1, 10 + i] for i in range(6)][1:]
    negatives = negatives_of(batch_of(ids), 3000)
    drawn = negatives.augment(batch_of(ids), seeded()).ids[len(ids) :]
    of_first = drawn[drawn[:, 0] == 0][:, 1]
    assert set(of_first.tolist()) == {11, 12, 14, 15}
    shares = of_first.bincount(minlength=16)[[11, 12, 14, 15]] / len(of_first)
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.02, rtol=0)
    assert drawn[drawn[:, 0] == 1][:, 1].unique().tolist() == [10]


def test_the_same_generator_draws_the_same_negatives(batch):
    negatives = negatives_of(batch, 2)
    first, again, other = (negatives.augment(batch, seeded(s)).ids for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_user_of_every_item_is_refused():
    rows = batch_of([[4, 10], [4, 11], [5, 10], [4, 11]])
    with pytest.raises(ValueError, match="global id 4 has every one of the 2 items"):
        negatives_of(rows, 1)


def test_candidates_are_distinct_and_never_known():
    known = torch.rand(50, 40, generator=seeded(2)) < 0.5
    positives = known.flatten().nonzero().squeeze(1)
    users = torch.tensor([*range(50), 3, 3])
    candidates = draw_candidates(positives, users, 40, count=9, generator=seeded())
    assert candidates.shape == (52, 9)
    assert all(len(set(row)) == 9 for row in candidates.tolist())
    assert not known[users[:, None], candidates].any()
    again = draw_candidates(positives, users, 40, count=9, generator=seeded())
    assert torch.equal(candidates, again)


def test_every_set_of_candidates_is_equally_likely():
    positives = torch.tensor([0 * 5 + 2])
    drawn = draw_candidates(positives, torch.zeros(12_000).long(), 5, 2, seeded())
    counts = Counter(map(tuple, drawn.tolist()))
    assert set(counts) == set(combinations((0, 1, 3, 4), 2))
    assert all(1800 < count < 2200 for count in counts.values())


def test_candidates_may_be_all_that_is_left_but_not_more():
    positives = torch.tensor([1, 4, 7])  # user 0 has items 1, 4 and 7 of 10; user 1 none
    users = torch.tensor([0, 1])
    drawn = draw_candidates(positives, users, 10, count=7, generator=seeded())
    assert drawn[0].tolist() == [0, 2, 3, 5, 6, 8, 9]
    with pytest.raises(
        ValueError, match=r"candidates: 8 is not allowed; .* only 7 of 10 items left"
    ):
        draw_candidates(positives, users, 10, count=8, generator=seeded())


@pytest.fixture
def log():
    """Users a to h with 12 of 40 items each, in random order; the brand follows from the item."""
    random = np.random.default_rng(3)
    items = np.concatenate([random.choice(40, 12, replace=False) for _ in range(8)])
    frame = pd.DataFrame({"user": np.repeat(list("abcdefgh"), 12), "item": items})
    frame["brand"] = pd.Categorical("b" + (frame["item"] % 7).astype(str))
    frame["place"] = random.integers(4, size=len(frame))
    frame["hour"] = random.random(len(frame))
    return frame.sample(frac=1, random_state=0).reset_index(drop=True)


def lists(log, held, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return ranking_lists(log, np.array(held), COLUMNS, 10, generator)


def test_a_list_is_the_held_out_row_and_items_never_chosen(log):
    held = [5, 0, 17, 80]
    frame, labels, query = lists(log, held)
    chosen = log.groupby("user")["item"].agg(set)
    assert query.tolist() == np.repeat(np.arange(4), 11).tolist()
    assert labels.reshape(4, 11).tolist() == [[1] + [0] * 10] * 4
    pd.testing.assert_frame_equal(frame[labels == 1], log.iloc[held])
    for at, (_, rows) in zip(held, frame.groupby(query), strict=True):
        candidates = set(rows["item"].iloc[1:])
        assert len(candidates) == 10
        assert not candidates & chosen[log["user"][at]]


def test_candidates_bring_their_side_along_and_nothing_else_changes(log):
    held = [5, 0, 17, 80]
    frame, _, query = lists(log, held)
    assert (frame["brand"].astype(str) == "b" + (frame["item"] % 7).astype(str)).all()
    kept = ["user", "place", "hour"]
    expected = log[kept].iloc[np.array(held)[query]]
    pd.testing.assert_frame_equal(frame[kept], expected)


def test_the_generator_fixes_the_candidates(log):
    first, again, other = (lists(log, [1, 2], seed).frame["item"].tolist() for seed in (1, 1, 2))
    assert first == again != other

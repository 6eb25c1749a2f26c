import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.data.catalogue import ranking_lists
from glassrec.data.columns import Columns

COLUMNS = Columns(
    user="user", item="item", categorical=("brand", "place"), dense=("hour",), item_side=("brand",)
)


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

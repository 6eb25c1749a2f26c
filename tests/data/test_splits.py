import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.data.columns import Columns
from glassrec.data.splits import ByTime, Given, LeaveOneOut, Random

LABELLED = Columns(label="label", dense=("x",), time="time", split="fold")
LOGGED = Columns(
    user="user", item="item", categorical=("brand", "place"), item_side=("brand",), time="time"
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(parts):
    """The row numbers of each part; the column x of `labelled` counts rows."""
    return [part.frame["x"].astype(int).tolist() for part in parts]


def labelled(n=100):
    return pd.DataFrame(
        {"x": np.arange(n), "label": np.arange(n) % 2, "time": np.arange(n) // 10 * -1.0}
    )


def test_a_given_split_follows_its_column():
    frame = labelled(6).assign(fold=["train", "test", "train", "val", "train", "test"])
    parts = Given(validation="val").split(frame, LABELLED, seeded())
    assert rows(parts) == [[0, 2, 4], [3], [1, 5]]
    assert parts.test.labels.tolist() == [[1], [1]]


def test_a_given_split_refuses_other_values():
    frame = labelled(3).assign(fold=["train", "validation", "tset"])
    with pytest.raises(ValueError, match=r"'tset' in row 3; did you mean 'test'"):
        Given().split(frame, LABELLED, seeded())
    with pytest.raises(ValueError, match="needs a split column"):
        Given().split(frame, Columns(label="label", dense=("x",)), seeded())


def test_a_random_split_has_its_shares_and_every_row_once():
    parts = Random(validation=0.15, test=0.25).split(labelled(), LABELLED, seeded())
    train, validation, test = rows(parts)
    assert (len(train), len(validation), len(test)) == (60, 15, 25)
    assert sorted(train + validation + test) == list(range(100))
    assert test != list(range(75, 100))


def test_a_random_split_is_fixed_by_the_seed():
    first, again, other = (rows(Random().split(labelled(), LABELLED, seeded(s))) for s in (1, 1, 2))
    assert first == again != other


def test_a_seed_of_its_own_takes_the_place_of_that_of_the_run():
    """So that runs of several seeds share a split."""
    for split, own in ((Random(), Random(seed=5)), (LeaveOneOut(), LeaveOneOut(seed=5))):
        draws = [s.generator(n).initial_seed() for s in (split, own) for n in (0, 1, 5)]
        assert draws == [0, 1, 5, 5, 5, 5]
        assert [split.drawn_by(3), own.drawn_by(3)] == [3, 5]
    assert ByTime().drawn_by(3) is None


def test_by_time_takes_the_newest_last_and_ties_in_file_order():
    parts = ByTime(validation=0.05, test=0.15).split(labelled(), LABELLED, seeded())
    train, validation, test = rows(parts)
    # Time falls by one every ten rows: 90..99 are the oldest, 0..9 the newest.
    assert test == [15, 16, 17, 18, 19, *range(10)]
    assert validation == [10, 11, 12, 13, 14]
    assert train[:10] == list(range(90, 100))


def test_by_time_of_chronological_data_goes_by_file_order():
    columns = Columns(label="label", dense=("x",), chronological=True)
    train, validation, test = rows(ByTime(0.1, 0.2).split(labelled(), columns, seeded()))
    assert (train, validation, test) == ([*range(70)], [*range(70, 80)], [*range(80, 100)])


@pytest.mark.parametrize("others", [{}, {"rating": "x"}, {"label": "label", "rating": "x"}])
def test_what_has_label_0_is_not_to_be_retrieved(others):
    columns = Columns(retrieval=True, user="who", item="what", time="time", **others)
    frame = labelled().assign(who=np.arange(100) % 7, what=np.arange(100) % 11)
    parts = ByTime().split(frame, columns, seeded())
    assert columns.targets[-1].kind == "retrieval"
    for part in parts:
        expected = part.frame["label"] if "label" in others else 1
        assert (part.labels[:, -1] == expected).all()


def test_by_time_without_any_time_is_refused():
    with pytest.raises(ValueError, match=r"no time column.*`chronological: true`.*split=random"):
        ByTime().split(labelled(), Columns(label="label", dense=("x",)), seeded())
    with pytest.raises(ValueError, match="'at' orders the rows"):
        Columns(label="label", dense=("x",), time="at", chronological=True)


@pytest.mark.parametrize("split", [Random, ByTime])
def test_shares_must_leave_something_to_train_on(split):
    with pytest.raises(ValueError, match="leaves no row to train on"):
        split(validation=0.5, test=0.5)
    with pytest.raises(ValueError, match="the validation part of 4 rows is empty"):
        split(validation=0.1, test=0.5).split(labelled(4), LABELLED, seeded())


@pytest.mark.parametrize("split", [Given(), Random(), ByTime()])
def test_judging_row_by_row_needs_a_label(split):
    columns = Columns(dense=("x",), time="time", split="fold")
    frame = labelled(30).assign(fold=["train", "validation", "test"] * 10)
    with pytest.raises(ValueError, match="needs a label or a rating column"):
        split.split(frame, columns, seeded())


@pytest.fixture
def log():
    """Users a to t; 12 of 60 items each, in random file order, with many ties in time."""
    random = np.random.default_rng(3)
    items = np.concatenate([random.choice(60, 12, replace=False) for _ in range(20)])
    frame = pd.DataFrame({"user": np.repeat(list("abcdefghijklmnopqrst"), 12), "item": items})
    frame["brand"] = pd.Categorical("b" + (frame["item"] % 7).astype(str))
    frame["place"] = random.integers(4, size=len(frame))
    frame["time"] = random.integers(5, size=len(frame))
    return frame.sample(frac=1, random_state=0).reset_index(drop=True)


def brute_force_last_two(log):
    """For each user the row numbers of the second last and the last interaction."""
    found = {}
    for user in log["user"].unique():
        own = [(time, row) for row, time in log.loc[log["user"] == user, "time"].items()]
        found[user] = [row for _, row in sorted(own)[-2:]]
    return found


def test_leave_one_out_holds_out_the_last_two_rows_of_each_user(log):
    parts = LeaveOneOut(candidates=10).split(log, LOGGED, seeded())
    expected = brute_force_last_two(log)
    for at, part in enumerate((parts.validation, parts.test)):
        positives = part.frame[part.labels == 1]
        assert dict(zip(positives["user"], positives.index, strict=True)) == {
            user: pair[at] for user, pair in expected.items()
        }
    held = [row for pair in expected.values() for row in pair]
    pd.testing.assert_frame_equal(parts.train.frame, log.drop(index=held))
    assert parts.train.labels.tolist() == [1] * 200


def test_the_item_that_validates_is_never_the_one_that_tests():
    histories = {
        "a": [1, 2, 3, 9, 9, 9],  # the last row of another item validates; two rows are in no part
        "b": [1, 2, 3],
        "c": [5, 5, 5, 5],  # nobody is ranked on the only item
        "d": [4, 7, 7],  # no row is left to train on
        "e": [7, 4, 7],
    }
    log = pd.DataFrame(
        [(user, item) for user, items in histories.items() for item in items],
        columns=["user", "item"],
    )
    parts = LeaveOneOut(1).split(log, Columns(user="user", item="item"), seeded())
    held = [
        part.frame.loc[part.labels == 1, ["user", "item"]].values.tolist()
        for part in (parts.validation, parts.test)
    ]
    assert held == [[["a", 3], ["b", 2], ["e", 4]], [["a", 9], ["b", 3], ["e", 7]]]
    assert parts.train.frame.groupby("user")["item"].agg(list).to_dict() == {
        "a": [1, 2], "b": [1], "c": [5, 5, 5, 5], "d": [4, 7, 7], "e": [7],
    }  # fmt: skip


def test_candidates_are_fixed_by_the_seed(log):
    first, again, other = (
        LeaveOneOut(10).split(log, LOGGED, seeded(s)).test.frame["item"].tolist() for s in (1, 1, 2)
    )
    assert first == again != other


def test_a_user_of_two_rows_stays_in_train(log):
    short = pd.DataFrame(
        {"user": ["z", "z"], "item": [1, 2], "brand": ["b1", "b2"], "place": 0, "time": 9}
    )
    frame = pd.concat([log, short], ignore_index=True)
    parts = LeaveOneOut(10).split(frame, LOGGED, seeded())
    assert (parts.train.frame["user"] == "z").sum() == 2
    assert "z" not in set(parts.validation.frame["user"]) | set(parts.test.frame["user"])


def test_without_time_the_last_rows_of_the_file_are_held_out(log):
    columns = Columns(user="user", item="item")
    parts = LeaveOneOut(10).split(log, columns, seeded())
    positives = parts.test.frame[parts.test.labels == 1]
    assert sorted(positives.index) == sorted(log.groupby("user").tail(1).index)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(user="user", categorical=("brand",)), "needs a user and an item column"),
        (Columns(label="place", user="user", item="item"), "takes every row as a positive"),
    ],
)
def test_leave_one_out_says_what_it_needs(log, columns, message):
    with pytest.raises(ValueError, match=message):
        LeaveOneOut(10).split(log, columns, seeded())


def test_leave_one_out_needs_users_of_three_rows_and_enough_items(log):
    with pytest.raises(ValueError, match="no user has three rows"):
        LeaveOneOut(1).split(log.drop_duplicates("user"), LOGGED, seeded())
    with pytest.raises(ValueError, match=r"data\.split\.candidates: 99 is not allowed"):
        LeaveOneOut(99).split(log, LOGGED, seeded())


@pytest.mark.parametrize("stated", [False, True])
def test_leave_one_out_says_where_it_takes_the_order_of_the_file(capsys, stated):
    log = pd.DataFrame({"user": [0, 0, 0, 1], "item": [4, 5, 6, 7]})
    columns = Columns(user="user", item="item", chronological=stated)
    parts = LeaveOneOut(candidates=1).split(log, columns, seeded())
    assert parts.test.frame["item"].tolist()[0] == 6
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (0 if stated else 1)
    assert stated or all(word in lines[0] for word in ("time", "order of the file", "`time`"))

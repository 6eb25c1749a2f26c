import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.data.columns import Columns
from glassrec.data.dataset import assemble
from glassrec.data.events import EARLIER, step_names, with_history
from glassrec.data.movielens import MovieLens100K
from glassrec.data.ncf_files import NCF
from glassrec.data.splits import ByTime, Given, LeaveOneOut, Random

LOGGED = Columns(user="user", item="item", time="time")
CLICKED = Columns(label="click", user="user", item="item", time="time", split="fold")


@pytest.fixture
def log():
    """60 rows of 5 users in random order, with many equal times; items as text."""
    random = np.random.default_rng(0)
    pairs = random.permutation([*itertools.product(range(5), range(30))])[:60]
    return pd.DataFrame(
        {
            "user": pairs[:, 0],
            "item": [f"i{item:02d}" for item in pairs[:, 1]],
            "time": random.integers(8, size=60),
            "click": random.integers(2, size=60),
        }
    )


def past(log, row, length):
    """By brute force: the items of the user's earlier rows, newest last, padded with None."""
    users, times, all_items = (log[name].tolist() for name in ("user", "time", "item"))
    mine = [
        (times[other], other)
        for other in range(len(log))
        if users[other] == users[row] and times[other] < times[row]
    ]
    items = [all_items[other] for _, other in sorted(mine)][-length:]
    return [None] * (length - len(items)) + items


@pytest.mark.parametrize(("length", "kind"), [(1, str), (4, "category"), (40, str)])
def test_a_history_holds_the_last_rows_of_strictly_earlier_time(log, length, kind):
    log["item"] = log["item"].astype(kind)
    found = with_history(log, LOGGED, length)
    assert found[[*log]].equals(log)
    steps = found[step_names(length)].astype(object)
    steps = steps.where(steps.notna(), None)
    assert steps.to_numpy().tolist() == [past(log, row, length) for row in range(len(log))]
    earlier = [sum(item is not None for item in past(log, row, 99)) for row in range(len(log))]
    assert found[EARLIER].tolist() == earlier
    if length == 40:
        assert steps.isna().any(axis=1).all()  # no user has so many


def test_without_a_time_the_file_is_in_order(log):
    found = with_history(log, Columns(user="user", item="item"), 3)
    expected = with_history(log.assign(time=range(60)), LOGGED, 3)
    assert found.equals(expected.drop(columns="time").assign(time=log["time"])[[*found]])


def test_no_history_leaves_the_rows_alone(log):
    assert with_history(log, LOGGED, 0) is log


@pytest.mark.parametrize(
    ("columns", "frame", "message"),
    [
        (Columns(label="click", item="item"), {}, "needs a user and an item"),
        (LOGGED, {"history[-2]": 1}, r"takes the column name 'history\[-2\]'"),
        (LOGGED, {"history": 1}, "takes the column name 'history'"),
    ],
)
def test_a_history_names_the_columns_that_it_lacks(log, columns, frame, message):
    with pytest.raises(ValueError, match=message):
        with_history(log.assign(**frame), columns, 3)


def named(data, history):
    """Global ids as items, 0 as None."""
    offset = data.schema.offsets[1]
    return [None if row == 0 else row - offset for row in history.tolist()]


def test_steps_are_global_ids_of_items_and_those_that_training_lacks_are_unseen(log):
    columns = Columns(label="click", user="user", item="item", time="time")
    parts = ByTime(0.2, 0.2).split(with_history(log, columns, 4), columns, torch.Generator())
    data = assemble(parts, columns, history=4)
    assert data.schema.history_length == 4
    known = sorted(set(parts.train.frame["item"]))
    unseen = 0
    for part, split in zip(parts, data.splits.values(), strict=True):
        for row, history in zip(part.frame.index, split.batch.history, strict=True):
            expected = [
                item if item is None else known.index(item) + 1 if item in known else 0
                for item in past(log, row, 4)
            ]
            assert named(data, history) == expected
            unseen += expected.count(0)
    assert unseen > 0


def test_ranked_rows_share_the_history_of_their_query_and_negatives_that_of_their_positive(log):
    split = LeaveOneOut(candidates=5)
    parts = split.split(with_history(log, LOGGED, 3), LOGGED, torch.Generator())
    data = assemble(parts, LOGGED, negatives=2, history=3)
    for part in (data.validation, data.test):
        lists = part.batch.history.view(-1, 6, 3)
        assert torch.equal(lists, lists[:, :1].expand_as(lists))
    newest = data.test.batch.history.view(-1, 6, 3)[:, 0, -1]
    validated = data.validation.batch.ids.view(-1, 6, 2)[:, 0, 1]
    first, last = (part.frame["time"].to_numpy()[::6] for part in parts[1:])
    assert (first < last).tolist() == (newest == validated).tolist()  # simultaneous is not earlier
    assert 0 < (first < last).sum() < len(first)
    positives = data.train.batch
    known = dict(zip(map(tuple, positives.ids.tolist()), positives.history.tolist(), strict=True))
    epoch = data.epoch(seed=0, epoch=0)
    assert epoch.history.shape == (3 * positives.rows, 3)
    positive = epoch.targets[:, 0] == 1
    for ids, history in zip(epoch.ids[positive].tolist(), epoch.history[positive], strict=True):
        assert known[tuple(ids)] == history.tolist()
    # As every negative shares the history of a positive, each history is there as often.
    rows, counts = epoch.history[~positive].unique(dim=0, return_counts=True)
    expected, once = positives.history.unique(dim=0, return_counts=True)
    assert torch.equal(rows, expected)
    assert torch.equal(counts, 2 * once)


def test_training_never_sees_what_is_held_out(log):
    for split in (LeaveOneOut(candidates=5), ByTime(0.2, 0.2)):
        columns = LOGGED if split.ranked else CLICKED
        parts = split.split(with_history(log, columns, 3), columns, torch.Generator())
        train, *held = (
            {tuple(pair) for pair in part.frame[part.labels.ravel() >= 0][["user", "item"]].values}
            for part in parts
        )
        seen = parts.train.frame.melt("user", step_names(3)).dropna()[["user", "value"]]
        shown = set(map(tuple, seen.astype(object).values))
        assert shown <= train
        assert held[0]
        assemble(parts, columns, history=3)  # and is not refused


@pytest.mark.parametrize("split", [Random(0.2, 0.2), Given()])
def test_a_split_that_trains_on_the_future_is_refused(log, split):
    log["fold"] = np.resize(["train", "test", "validation"], len(log))
    parts = split.split(with_history(log, CLICKED, 3), CLICKED, torch.Generator())
    with pytest.raises(ValueError, match=r"user \d has training rows behind a held-out one"):
        assemble(parts, CLICKED, history=3)


def test_a_given_split_of_each_user_s_last_rows_is_not(log):
    log = log.sort_values("time", kind="stable", ignore_index=True)
    log["fold"] = np.repeat(["train", "validation", "test"], 20)
    parts = Given().split(with_history(log, CLICKED, 3), CLICKED, torch.Generator())
    assert assemble(parts, CLICKED, history=3).train.batch.history.shape == (20, 3)


@pytest.mark.parametrize("columns", [3, 4])
def test_ncf_s_rows_are_newest_first(tmp_path, columns):
    train = [(0, 5, 4, 30), (0, 6, 4, 20), (0, 7, 5, 10), (1, 8, 3, 9), (1, 7, 3, 9), (1, 9, 2, 9)]
    test = [(0, 9, 5, 40), (1, 6, 4, 40)]
    for name, rows in (("train", train), ("test", test)):
        lines = ["\t".join(map(str, row[:columns])) for row in rows]
        (tmp_path / f"toy.{name}.rating").write_text("\n".join(lines) + "\n")
    (tmp_path / "toy.test.negative").write_text("(0,9)\t8\n(1,6)\t5\n")
    source = NCF(tmp_path, "toy", candidates=1, history=3)
    data = source.load(seed=0)
    items = sorted({6, 7, 9})  # 5 and 8 validate
    expected = {
        "train": [[7], [], [9], []],
        "val": [[6, 7], [7, 9]],
        "test": [[5, 6, 7], [8, 7, 9]],
    }
    if columns == 4:  # user 1 rated three items at once, so that none is earlier
        expected["train"][2:], expected["val"][1:] = [[], []], [[]]
    id_of = {item: at + 1 for at, item in enumerate(items)} | {5: 0, 8: 0}
    history = {name: split.batch.history for name, split in data.splits.items()}
    got = {"train": history["train"], "val": history["val"][::2], "test": history["test"][::2]}
    for name in ("train", "val", "test"):
        rows = [[id_of[item] for item in reversed(items)] for items in expected[name]]
        assert [named(data, row) for row in got[name]] == [
            [None] * (3 - len(row)) + row for row in rows
        ]
    # Another row than the newest cannot validate: later ones would show it.
    source = NCF(tmp_path, "toy", validation="random", candidates=1, history=3)
    with pytest.raises(ValueError, match="validation=newest"):
        [source.load(seed) for seed in range(9)]


def test_a_movielens_history_is_in_the_order_of_time(tmp_path):
    random = np.random.default_rng(0)
    rows = [
        (u, i, 4, int(random.integers(6))) for u, i in itertools.product((1, 2), (1, 2, 3, 4, 5))
    ]
    flags = "0|" * 18 + "1"
    (tmp_path / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    (tmp_path / "u.user").write_text("1|30|M|artist|12345\n2|40|F|artist|12345\n")
    (tmp_path / "u.item").write_text("".join(f"{i}|T (1990)|a|b|c|{flags}\n" for i in range(1, 6)))
    source = MovieLens100K(tmp_path, split=ByTime(0.1, 0.2), history=4)
    data = source.load(seed=0)
    log = pd.DataFrame(rows, columns=["user", "item", "rating", "time"])
    order = log["time"].argsort(kind="stable")
    known = sorted(set(log["item"][order[:7]]))
    for at, history in enumerate(data.train.batch.history):
        expected = past(log, order[at], 4)
        assert named(data, history) == [i and known.index(i) + 1 for i in expected]

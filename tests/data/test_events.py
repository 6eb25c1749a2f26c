"""Which rows record one event, and which are a user's return to an item, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.data.audit import audit_log
from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset
from glassrec.data.events import duplicate_events, repeated_pairs, repeats
from glassrec.data.splits import LeaveOneOut
from glassrec.data.table import Table

TIMED = Columns(user="user", item="item", time="time", categorical=("place",))


@pytest.fixture
def log() -> pd.DataFrame:
    """200 rows of 4 users, 5 items, 6 times and 3 places, so that most things come twice."""
    random = np.random.default_rng(1)
    sizes = {"user": 4, "item": 5, "time": 6, "place": 3, "click": 2}
    return pd.DataFrame({name: random.integers(size, size=200) for name, size in sizes.items()})


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        (TIMED, ["user", "item", "time"]),
        (Columns(user="user", item="item", categorical=("place",)), ["user", "item", "place"]),
        (
            Columns(label="click", user="user", item="item", time="time", categorical=("place",)),
            ["user", "item", "time", "place", "click"],
        ),
        (Columns(label="click", user="user", item="item"), None),
        (Columns(user="user", categorical=("place",), time="time"), None),
    ],
)
def test_a_duplicate_agrees_with_a_row_before_it(log: pd.DataFrame, columns, key) -> None:
    seen: set[tuple] = set()
    expected = []
    for row in log.to_dict("records"):
        event = tuple(row[name] for name in key or [])
        expected.append(key is not None and event in seen)
        seen.add(event)
    assert duplicate_events(log, columns, repeated_pairs(log, columns)).tolist() == expected
    assert any(expected) == (key is not None)
    left, _ = audit_log(log, columns, duplicates="drop")
    assert left.index.tolist() == [row for row, drop in enumerate(expected) if not drop]
    assert audit_log(log, columns)[0].equals(log)


@pytest.mark.parametrize("time", ["time", None])
def test_a_repeat_is_of_an_item_that_the_user_has_before(log: pd.DataFrame, time) -> None:
    columns = Columns(user="user", item="item", time=time)
    key = log["time"] if time else pd.Series(0, log.index)
    found = repeats(log, columns, repeated_pairs(log, columns))
    for row, other in itertools.product(range(60), repeat=2):
        if (key[other], other) < (key[row], row) and all(
            log[name][row] == log[name][other] for name in ("user", "item")
        ):
            assert found[row]
    left, _ = audit_log(log, columns, repeated="drop")
    assert not left.duplicated(["user", "item"]).any()
    assert len(left) == len(log.drop_duplicates(["user", "item"]))


def test_repeats_cannot_be_dropped_without_a_user(log: pd.DataFrame) -> None:
    columns = Columns(item="item", categorical=("place",))
    with pytest.raises(ValueError, match=r"no user column.*data\.repeats=keep"):
        audit_log(log, columns, repeated="drop")


@pytest.fixture
def twice(tmp_path) -> Table:
    """A log that records each event twice: 30 users with 6 of 60 random items each."""
    random = np.random.default_rng(7)
    rows = [
        (f"u{user}", f"i{item}", 100 * step + user)
        for user in range(30)
        for step, item in enumerate(random.choice(60, 6, replace=False))
    ]
    frame = pd.DataFrame(rows * 2, columns=["user", "item", "time"])
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "columns.yaml").write_text("user: user\nitem: item\ntime: time\n")
    return Table(tmp_path / "log.csv", tmp_path / "columns.yaml", split=LeaveOneOut(20), history=3)


def positives(data: Dataset, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and histories of the rows of target 1."""
    batch = data.splits[name].batch
    chosen = batch.targets[:, 0] == 1
    return batch.ids[chosen], batch.history[chosen]


@pytest.mark.parametrize("duplicates", ["drop", "keep"])
def test_a_log_that_records_each_event_twice_reveals_no_held_out_item(twice, duplicates) -> None:
    data = Table(
        twice.path, twice.columns, split=twice.split, history=3, duplicates=duplicates
    ).load(0)
    for name in data.splits:
        ids, history = positives(data, name)
        assert (ids[:, 1:] != history).all()
    (validation, _), (test, _) = positives(data, "val"), positives(data, "test")
    assert (validation[:, 0] == test[:, 0]).all()
    assert (validation[:, 1] != test[:, 1]).all()
    if duplicates == "drop":
        assert data.train.batch.rows == 30 * 4


def test_an_item_that_was_shown_and_not_taken_is_no_repeat() -> None:
    rows = [("a", "x", 0), ("a", "x", 1), ("a", "x", 0), ("a", "x", 1), ("a", "y", 1)]
    log = pd.DataFrame(rows, columns=["user", "item", "click"]).assign(time=range(5))
    columns = Columns(user="user", item="item", label="click", time="time")
    found = repeats(log, columns, repeated_pairs(log, columns))
    assert found.tolist() == [False, False, True, True, False]
    clicks = log.assign(click=1)
    found = repeats(clicks, columns, repeated_pairs(clicks, columns))
    assert found.tolist() == [False, True, True, True, False]

"""Whether a column describes the item: what is refused, what is accepted, and what travels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset
from glassrec.data.sides import check_item_side, check_undeclared
from glassrec.data.splits import LeaveOneOut
from glassrec.data.table import Table
from glassrec.data.text_file import Format, Origin
from glassrec.metrics.retrieval import _items
from glassrec.models.two_tower import TwoTower

USERS, ITEMS, EACH = 60, 120, 8


@pytest.fixture
def log() -> pd.DataFrame:
    """60 users with 8 of 120 random items each; columns of the item, the user and the moment."""
    random = np.random.default_rng(5)
    item = np.concatenate([random.choice(ITEMS, EACH, replace=False) for _ in range(USERS)])
    user = np.repeat(np.arange(USERS), EACH)
    n = len(item)
    usual = 5 + 37.0 * item % 101
    changed = np.where((item == item[0]) & (np.arange(n) > n // 2), 999, usual)
    return pd.DataFrame(
        {
            "user": [f"u{u}" for u in user],
            "item": [f"i{i}" for i in item],
            "time": np.tile(np.arange(EACH), USERS) * 1000 + user,
            "brand": [f"b{i % 20}" for i in item],
            "price": usual,
            "changed": changed,
            "daily": usual * random.uniform(0.97, 1.03, n),
            "rare": (item % 40 == 3).astype(str),
            "hour": random.integers(24, size=n).astype(str),
            "load": random.standard_normal(n),
            "city": [f"c{u % 9}" for u in user],
            "age": 20.0 + user % 50,
            "constant": "x",
        }
    )


DENSE = ("price", "changed", "daily", "load", "age")


def roles(*names: str, **others: object) -> Columns:
    dense = tuple(name for name in names if name in DENSE)
    fields = tuple(name for name in names if name not in DENSE)
    return Columns(user="user", item="item", time="time", dense=dense, categorical=fields, **others)


@pytest.mark.parametrize("name", ["brand", "price", "changed", "daily", "rare"])
def test_a_column_that_the_item_determines_must_be_declared(log: pd.DataFrame, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} follows from item.*item_side, or under context"):
        check_undeclared(log, roles(name))
    check_undeclared(log, roles(name, item_side=(name,)))
    check_undeclared(log, roles(name, context=(name,)))


@pytest.mark.parametrize("name", ["hour", "load", "city", "age", "constant"])
def test_columns_of_the_user_and_the_moment_are_accepted(log: pd.DataFrame, name: str) -> None:
    check_undeclared(log, roles(name))


def test_items_that_occur_once_are_no_evidence(log: pd.DataFrame) -> None:
    check_undeclared(log.drop_duplicates("item"), roles("brand", "price"))
    one = log[log["item"] == log["item"][0]]
    check_undeclared(pd.concat([log.drop_duplicates("item"), one]), roles("brand"))


def test_a_user_s_own_repeats_are_no_evidence(log: pd.DataFrame) -> None:
    """A session is the same in all rows of most items here, because one user repeats them."""
    own = log.drop_duplicates("item").assign(session=lambda rows: rows["user"])
    check_undeclared(pd.concat([own] * 5), roles("session"))


@pytest.mark.parametrize("name", ["brand", "price"])
def test_an_item_of_several_values_is_refused_by_line(
    log: pd.DataFrame, name: str, tmp_path: Path
) -> None:
    columns = roles(name, item_side=(name,))
    origin = Origin(tmp_path / "log.csv", Format(",", header=True))
    check_item_side(log, columns, origin)
    rows = np.flatnonzero(log["item"] == log["item"][0])
    usual = log[name][0]
    log.loc[rows[1], name] = "acme" if name == "brand" else 7.25
    log.to_csv(origin.path, index=False)
    found = rf"line {rows[1] + 2}: {name} is '?(acme|7.25)'? .*'{log['item'][0]}'.*{usual}"
    with pytest.raises(ValueError, match=rf"log.csv, {found}'? in .*log.csv, line 2"):
        check_item_side(log, columns, origin)


def load(log: pd.DataFrame, root: Path, text: str, **settings: object) -> Dataset:
    log.to_csv(root / "log.csv", index=False)
    (root / "columns.yaml").write_text(f"user: user\nitem: item\ntime: time\n{text}")
    return Table(root / "log.csv", root / "columns.yaml", **settings).load(0)


def test_leave_one_out_refuses_undeclared_columns(log: pd.DataFrame, tmp_path: Path) -> None:
    for role in ("categorical: [brand]", "dense: [price]"):
        with pytest.raises(ValueError, match="follows from item"):
            load(log, tmp_path, role, split=LeaveOneOut(20))


def test_numbers_of_the_item_come_with_negatives_and_candidates(
    log: pd.DataFrame, tmp_path: Path
) -> None:
    text = "categorical: [brand]\ndense: [load, price]\nitem_side: [price, brand]\n"
    data = load(log, tmp_path, text, split=LeaveOneOut(20))
    assert data.schema.item_side == ("item", "brand")
    assert data.schema.item_dense == ("price",)
    known = dict(
        zip(data.train.batch.ids[:, 1].tolist(), data.train.batch.dense[:, 1], strict=True)
    )
    epoch = data.epoch(0, 0)
    assert epoch.dense[:, 1].tolist() == [known[item] for item in epoch.ids[:, 1].tolist()]
    assert len(epoch.dense[:, 0].unique()) == data.train.batch.rows  # the moment's stays
    for split in (data.validation, data.test):
        lists = split.batch.dense.view(-1, 21, 2)
        assert (lists[:, :, 0] == lists[:, :1, 0]).all()
        for item, price in zip(
            split.batch.ids[:, 1].tolist(), split.batch.dense[:, 1], strict=True
        ):
            assert known.get(item, price) == price
        assert (lists[:, 1:, 1] != lists[:, :1, 1]).float().mean() > 0.9


def test_a_retriever_sees_the_numbers_of_candidates_on_their_side(
    log: pd.DataFrame, tmp_path: Path
) -> None:
    text = "retrieval: true\ndense: [load, price]\nitem_side: [price]\n"
    data = load(log, tmp_path, text)
    assert data.catalogue is not None
    rows = _items(data.catalogue, data.test.batch)
    known = dict(
        zip(data.train.batch.ids[:, 1].tolist(), data.train.batch.dense[:, 1], strict=True)
    )
    assert rows.dense[:, 1].tolist() == [known[item] for item in rows.ids[:, 1].tolist()]
    torch.manual_seed(0)
    model = TwoTower(data.schema, embedding=4, towers=(5,)).eval()
    batch = data.test.batch
    other = batch._replace(dense=batch.dense + torch.tensor([0.0, 1.0]))
    inputs, changed = model.embed(batch), model.embed(other)
    assert torch.equal(model.query(inputs), model.query(changed))
    assert not torch.equal(model.candidate(inputs), model.candidate(changed))
    torch.testing.assert_close(
        model(batch), (model.query(inputs) * model.candidate(inputs)).sum(1, keepdim=True)
    )

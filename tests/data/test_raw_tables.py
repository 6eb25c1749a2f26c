"""The raw tables of a run against pandas' own grouping of the log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from glassrec.data.columns import Columns
from glassrec.data.dataset import build_dataset
from glassrec.data.planted_sequence import PlantedSequence
from glassrec.data.raw_tables import RawTables
from glassrec.data.splits import ByTime, LeaveOneOut, Random
from glassrec.data.table import Table

ROLES = {
    "label": "click", "user": "who", "item": "sku", "categorical": ["city", "item"],
    "item_side": ["item", "price"], "dense": ["price", "age"], "time": "at", "item_name": "title",
}  # fmt: skip


@pytest.fixture
def log() -> pd.DataFrame:
    random = np.random.default_rng(3)
    rows = 400
    skus = random.integers(30, size=rows)
    return pd.DataFrame(
        {
            "click": random.integers(2, size=rows),
            "who": [f"u{user:02}" for user in random.integers(25, size=rows)],
            "sku": [f"s{sku:02}" for sku in skus],
            "city": random.choice(["Paris", "Łódź", ""], rows),
            "item": [f"kind {sku % 3}" for sku in skus],
            "price": skus * 1.5,
            "age": random.integers(18, 80, rows),
            "at": pd.Timestamp("2024-02-28T23:00:00Z")
            + pd.to_timedelta(random.permutation(rows), "h"),
            "title": ["" if sku == 7 else f"Title {sku}" for sku in skus],
        }
    )


def tables(folder: Path, log: pd.DataFrame, **settings: object) -> RawTables:
    import yaml

    written = log.assign(at=log["at"].map(pd.Timestamp.isoformat))
    written.to_csv(folder / "log.csv", index=False)
    (folder / "roles.yaml").write_text(yaml.safe_dump(ROLES))
    raw = Table(folder / "log.csv", folder / "roles.yaml", **settings).load(seed=0).raw
    assert raw is not None
    return raw


def test_interactions_are_the_log_by_user_and_time(tmp_path: Path, log: pd.DataFrame) -> None:
    found = tables(tmp_path, log, split=Random()).interactions
    assert found is not None
    assert (
        not found["user"]
        .astype(str)
        .ne(found["user"].astype(str).shift())
        .groupby(found["user"].astype(str))
        .sum()
        .gt(1)
        .any()
    ), "the rows of a user lie together"
    for user, rows in found.groupby(found["user"].astype(str)):
        own = log[log["who"] == user].sort_values("at")
        assert rows["item"].astype(str).tolist() == own["sku"].tolist()
        assert rows["label"].tolist() == own["click"].tolist()
        assert rows["row"].tolist() == (own.index + 1).tolist()
        assert rows["time"].tolist() == own["at"].tolist()


def test_last_rows_have_the_newest_context_of_each_user(tmp_path: Path, log: pd.DataFrame) -> None:
    found = tables(tmp_path, log, split=ByTime()).last_rows
    assert found is not None
    assert [*found] == ["user", "city", "age"]
    expected = log.sort_values("at").groupby("who").tail(1).set_index("who")
    for row in found.astype({"user": str, "city": str}).itertuples():
        assert (row.city, row.age) == (expected.at[row.user, "city"], expected.at[row.user, "age"])


def test_the_catalogue_has_each_item_with_its_side(tmp_path: Path, log: pd.DataFrame) -> None:
    dataset_log = log.copy()
    found = tables(tmp_path, dataset_log, split=Random(validation=0.1, test=0.1)).catalogue
    assert found is not None
    assert [*found] == ["item", "display_name", "training_count", "item_", "price"]
    by_item = dataset_log.groupby("sku")
    assert sorted(found["item"]) == sorted(by_item.groups)
    assert found["training_count"].sum() == 320
    for row in found.itertuples(index=False):
        own = by_item.get_group(row.item).iloc[0]
        assert (row.item_, row.price) == (own["item"], own["price"])
        assert row.display_name == (own["title"] or row.item)


@pytest.mark.parametrize("rare", [1, 12])
def test_known_items_come_first_in_the_order_of_their_ids(log: pd.DataFrame, rare: int) -> None:
    columns = Columns(label="click", user="who", item="sku", time="at")
    frame = log.assign(at=range(len(log)))
    data = build_dataset(frame, columns, Random(), 0, min_count=rare)
    assert data.raw is not None
    assert data.raw.catalogue is not None
    assert data.encoder is not None
    known = data.encoder.vocabularies["sku"].values
    assert (len(known) < frame["sku"].nunique()) == (rare > 1)
    assert data.raw.catalogue["item"].head(len(known)).tolist() == known.tolist()
    assert len(data.raw.catalogue) == frame["sku"].nunique()


def test_interactions_hold_rows_that_are_in_no_part(log: pd.DataFrame) -> None:
    frame = log[["who", "sku"]].assign(sku="s01").assign(at=range(len(log)))
    frame.loc[frame["at"] < 300, "sku"] = log["sku"]
    data = build_dataset(frame, Columns(user="who", item="sku", time="at"), LeaveOneOut(5), 0)
    assert data.raw is not None
    assert data.raw.interactions is not None
    assert len(data.raw.interactions) == len(frame)
    assert data.row_keys is not None
    assert len(data.row_keys) < len(frame)


def test_a_log_without_users_has_a_catalogue_alone(log: pd.DataFrame) -> None:
    data = build_dataset(log, Columns(label="click", item="sku", dense=("age",)), Random(), 0)
    assert data.raw is not None
    assert data.raw.interactions is data.raw.last_rows is None
    assert data.raw.catalogue is not None
    other = build_dataset(log, Columns(label="click", dense=("age",)), Random(), 0)
    assert other.raw is not None
    assert other.raw[:3] == (None, None, None)


def test_interactions_hold_rows_that_only_histories_show() -> None:
    source = PlantedSequence(users=5, events=10)
    raw, log = source.load(0).raw, source.generate()
    assert raw is not None
    assert raw.interactions is not None
    assert raw.interactions[["user", "item", "time"]].equals(log[["user", "item", "time"]])

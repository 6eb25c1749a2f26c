"""Encoded rows are decoded to the values of the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset, build_dataset
from glassrec.data.decoding import decode
from glassrec.data.splits import ByTime

ROWS, STEPS = 200, 2


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    random = np.random.default_rng(0)
    films = random.integers(0, 8, ROWS)
    return pd.DataFrame(
        {
            "user": random.choice(["ann", "bob", "zoë"], ROWS),
            "film": [f"f{film}" for film in films],
            "title": [f"Film {film} (1999)" for film in films],
            "tags": random.choice(["a", "a|b", "c|a|b"], ROWS),
            "city": random.choice(["Paris", "Rome", ""], ROWS),
            "price": random.normal(1234.5, 80, ROWS).round(2),
            "views": np.where(np.arange(ROWS) % 7 == 0, 0, random.integers(0, 100_000, ROWS)),
            "age": np.where(np.arange(ROWS) % 5 == 0, np.nan, random.integers(18, 80, ROWS)),
            "click": random.integers(0, 2, ROWS),
            "day": np.arange(ROWS),
        }
    )


@pytest.fixture(scope="module")
def dataset(log: pd.DataFrame) -> Dataset:
    columns = Columns(
        label="click", user="user", item="film", item_name="title",
        categorical=("city", "tags"), several=("tags",), dense=("price", "views", "age"),
        missing_ok=("age",), log=("views",), time="day",
    )  # fmt: skip
    return build_dataset(log, columns, ByTime(), seed=0, history=STEPS)


def test_all_values_are_those_of_the_file(log: pd.DataFrame, dataset: Dataset) -> None:
    assert dataset.row_keys is not None
    places = dataset.row_keys.loc[dataset.row_keys["split"] == "val", "row"].to_numpy() - 1
    rows, found = log.iloc[places], decode(dataset, dataset.validation.batch)
    assert len(found) == len(rows) > 10
    assert rows["age"].isna().any()
    for name in ("price", "views", "age"):  # float32 holds seven digits of the scaled value
        np.testing.assert_allclose(found[name], rows[name], rtol=2e-5, atol=1e-3)
    assert found["user"].tolist() == rows["user"].tolist()
    assert found["film"].tolist() == rows["title"].tolist()  # its display name
    assert found["city"].tolist() == rows["city"].replace("", "(empty)").tolist()
    assert found["tags"].tolist() == rows["tags"].str.replace("|", ", ").tolist()
    for place, at in enumerate(places):
        past = log.iloc[:at].loc[lambda frame, user=log["user"][at]: frame["user"] == user]
        steps = [None] * STEPS + past["title"].tolist()
        assert found.loc[place, ["history[-2]", "history[-1]"]].tolist() == steps[-STEPS:]


def test_a_value_that_training_does_not_have_is_unknown(
    log: pd.DataFrame, dataset: Dataset
) -> None:
    batch = dataset.validation.batch
    ids = batch.ids.clone()
    ids[:, dataset.schema.id_columns("city")[0]] = dataset.schema.unseen_id("city")
    assert set(decode(dataset, batch._replace(ids=ids))["city"]) == {"(unknown)"}


def test_without_an_encoder_numbers_are_scaled_and_names_are_ids(
    dataset: Dataset,
) -> None:
    bare = replace(dataset, encoder=None, raw=None)
    batch = bare.validation.batch
    found = decode(bare, batch)
    np.testing.assert_array_equal(found["price"], batch.dense[:, 0].double())
    offset = bare.schema.unseen_id("user")
    ids = batch.ids[:, bare.schema.id_columns("user")[0]] - offset
    assert found["user"].tolist() == [f"id {number}" for number in ids.tolist()]

"""Conditions on raw values, against pandas' own query of the raw rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset, build_dataset
from glassrec.data.splits import Random
from glassrec.explain.row_filter import RowFilter
from glassrec.explain.selection import Selection

TAGS = ["new|sale", "sale", "größe|new", "", "odd"]


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    random = np.random.default_rng(0)
    n = 400
    return pd.DataFrame(
        {
            "user": [f"u_{k:03}" for k in random.integers(20, size=n)],
            "item": random.integers(100, 110, n),
            "the city": random.choice(["Paris", "Łódź", 'the "Big" Apple', ""], n),
            "tags": random.choice(TAGS, n),
            "price": np.round(random.lognormal(3, 1, n), 2),
            "age": np.where(random.random(n) < 0.2, np.nan, random.integers(18, 90, n)),
            "won": random.integers(2, size=n),
        }
    )


@pytest.fixture(scope="module")
def data(raw: pd.DataFrame) -> Dataset:
    columns = Columns(
        label="won", user="user", item="item", categorical=("the city", "tags"), several=("tags",),
        dense=("price", "age"), log=("price",), missing_ok=("age",),
    )  # fmt: skip
    return build_dataset(raw, columns, Random(), 0)


def validation(data: Dataset, raw: pd.DataFrame) -> pd.DataFrame:
    keys = data.row_keys
    assert keys is not None
    return raw.iloc[keys.loc[keys["split"] == "val", "row"] - 1].reset_index(drop=True)


@pytest.mark.parametrize(
    "text",
    [
        "price > 20",
        "`the city` == 'Paris' and price > 20",
        'not (`the city` != "Paris" or price <= 20)',
        "(price > 10) & (price < 30) | ~(item in [100, 101])",
        "10 <= price < 30",
        "item >= 105 and user < 'u_010'",
        "user in ('u_001', 'u_002') or `the city` == ''",
        "`the city` not in ['Paris', 'Łódź']",
        "age > 30",
        "age != 40",
        "`the city` == 'the \"Big\" Apple'",
        "price == {price}",
        "price > {price}",
        "{price} >= price",
        "price in [{price}, 5]",
    ],
)
def test_conditions_are_those_of_pandas(data: Dataset, raw: pd.DataFrame, text: str) -> None:
    rows = validation(data, raw)
    text = text.format(price=rows["price"][3])
    found = RowFilter(text).matches(data.validation.batch, data.encoder)
    assert found.tolist() == rows.eval(text).tolist()
    assert found.any()
    assert not found.all() or "!=" in text


def test_a_cell_of_several_values_contains_some(data: Dataset, raw: pd.DataFrame) -> None:
    tags = validation(data, raw)["tags"].str.split("|")
    for word, expected in (("in", True), ("not in", False)):
        found = RowFilter(f"'new' {word} tags").matches(data.validation.batch, data.encoder)
        assert found.tolist() == [("new" in cell) == expected for cell in tags]


def test_values_that_training_did_not_know_equal_none(data: Dataset) -> None:
    batch = data.validation.batch
    encoder = data.encoder
    assert encoder is not None
    ids = batch.ids.clone()
    ids[:, encoder.schema.id_columns("the city")[0]] = encoder.schema.unseen_id("the city")
    unknown = batch._replace(ids=ids)
    assert not RowFilter("`the city` in ['Paris', '']").matches(unknown, encoder).any()
    assert RowFilter("`the city` != 'Paris'").matches(unknown, encoder).all()
    assert not RowFilter("`the city` >= ''").matches(unknown, encoder).any()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("prize > 20", ["'prize'", "did you mean 'price'"]),
        ("user = 'u_001'", ["invalid syntax", "city == 'Paris'"]),
        ("price > item", ["price with item", "constant"]),
        ("price > 2 * 10", ["2 * 10", "constant"]),
        ("price.mean() > 3", ["price.mean()"]),
        ("__import__('os').system('true')", ["__import__", "no comparison"]),
        ("price", ["'price'", "no comparison"]),
        ("price > 3 & item < 4", ["brackets"]),
        ("price in 3", ["a list"]),
        ("price > [3]", ["a text or a number"]),
        ("price == True", ["True"]),
        ("price > 'cheap'", ["price holds numbers", "'cheap'"]),
        ("user == 3", ["user holds text", "write '3'"]),
        ("tags == 'new'", ["tags has several values", "write 'new' in tags"]),
        ("'x' in user", ["user holds one value", "user == 'x'"]),
        ("item is 3", ["no comparison"]),
        ("", ["no condition"]),
        ("price >", ["no condition"]),
    ],
)
def test_anything_else_is_refused(data: Dataset, text: str, parts: list[str]) -> None:
    with pytest.raises(ValueError, match="where") as error:
        RowFilter(text).check(data.encoder)
    assert all(part in str(error.value) for part in parts), error.value


def test_a_selection_by_raw_values(data: Dataset, raw: pd.DataFrame) -> None:
    rows = validation(data, raw)
    user = rows["user"].mode()[0]
    chosen = Selection(where="price > 10", user=user, rows=None)
    chosen.check(data)
    found = chosen.matching(None, data, 0).tolist()  # type: ignore[arg-type]
    assert found == rows.index[(rows["price"] > 10) & (rows["user"] == user)].tolist()
    assert chosen.describe(3) == f"all 3 val rows, user {user}, where price > 10"
    encoder = data.encoder
    assert encoder is not None
    number = encoder.vocabularies["user"].values.get_loc(user) + 1
    by_number = Selection(user=number).matching(None, data, 0)  # type: ignore[arg-type]
    assert by_number.tolist() == rows.index[rows["user"] == user].tolist()
    for selection, message in (
        (Selection(where="`the city` == 'Pariss'"), "no the city 'Pariss'; did you mean 'Paris'"),
        (Selection(user="u_0099"), "user u_0099: .*did you mean 'u_009'"),
        (Selection(user=21), "user 21: the model has the users 0 to 20"),
    ):
        with pytest.raises(ValueError, match=message):
            selection.matching(None, data, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not made from raw rows"):
        Selection(where="price > 1").check(replace(data, encoder=None))


def test_a_raw_value_wins_over_a_number(data: Dataset, raw: pd.DataFrame) -> None:
    numbered = raw.assign(user=raw["user"].str[2:].astype(int))  # 0 to 19: ids 1 to 20
    columns = Columns(label="won", user="user", dense=("price",))
    own = build_dataset(numbered, columns, Random(), 0)
    rows = validation(own, numbered)
    found = Selection(user=3).matching(None, own, 0)  # type: ignore[arg-type]
    assert found.tolist() == rows.index[rows["user"] == 3].tolist()
    with pytest.raises(ValueError, match="user 21: the model has the users 0 to 20"):
        Selection(user=21).check(own)

"""An encoder that was written down encodes as before, and the keys of rows are those of values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.artifacts import Facts, StoredTable
from glassrec.data.columns import Columns, Part, Parts
from glassrec.data.dataset import assemble
from glassrec.data.encoding import Encoder, Scaler
from glassrec.data.saved_encoder import describe_encoder, overlap, restore_encoder, vocabulary_table

COLUMNS = Columns(
    label="click", dense=("price", "views"), categorical=("tags", "when"), user="user", item="item",
    several=("tags",), log=("views",), ranges={"price": (0, float("inf"))},
)  # fmt: skip


def frame(rows: int = 40, seed: int = 0, separator: str = "|") -> pd.DataFrame:
    random = np.random.default_rng(seed)
    tags = random.choice([separator.join(each) for each in ("ab", "b", "", "caü")], rows)
    return pd.DataFrame({
        "user": random.integers(9, size=rows),
        "item": pd.Categorical([f"sku {number}" for number in random.integers(7, size=rows)]),
        "tags": pd.Categorical(tags),
        "when": random.choice([0.5, 1.5], rows),
        "price": random.random(rows) * 10,
        "views": random.integers(100, size=rows).astype(float),
        "click": random.integers(2, size=rows).astype(float),
    })  # fmt: skip


def parts(whole: pd.DataFrame) -> Parts:
    cut = (whole[:20], whole[20:30], whole[30:])
    return Parts(*(Part(part, part["click"].to_numpy(np.float32)) for part in cut))


@pytest.fixture
def encoder() -> Encoder:
    return Encoder.fit(frame(), COLUMNS)


@pytest.mark.parametrize("separator", ["|", ";"])
def test_a_saved_encoder_encodes_as_before(tmp_path: Path, separator: str) -> None:
    columns = COLUMNS if separator == "|" else replace(COLUMNS, several={"tags": separator})
    encoder = Encoder.fit(frame(separator=separator), columns)
    StoredTable(vocabulary_table(encoder)).save(tmp_path / "values.parquet")
    Facts(describe_encoder(encoder)).save(tmp_path / "encoder.json")
    values = StoredTable.load(tmp_path / "values.parquet").frame
    again = restore_encoder(values, Facts.load(tmp_path / "encoder.json").values)
    assert again.schema == encoder.schema
    assert again.columns == encoder.columns
    assert again.scalers == encoder.scalers
    other = frame(seed=1, separator=separator)
    part = Part(other, other["click"].to_numpy(np.float32))
    for one, two in zip(again.encode(part).batch, encoder.encode(part).batch, strict=True):
        assert torch.equal(one, two)


def test_values_have_the_ids_that_they_are_encoded_with(encoder: Encoder) -> None:
    values = vocabulary_table(encoder)
    items = values[values["field"] == "item"]
    found = encoder.vocabularies["item"].encode(pd.Series(items["value"]), 0)
    assert [*items["id"]] == [*found] == [*range(1, len(items) + 1)]
    assert [*items["value"]] == sorted(frame()["item"].unique())


def test_the_hashes_tell_another_value_and_another_scaler(encoder: Encoder) -> None:
    first = describe_encoder(encoder)
    assert first == describe_encoder(Encoder.fit(frame(), COLUMNS))
    renamed = frame().assign(item=lambda rows: rows["item"].cat.rename_categories({"sku 1": "x"}))
    other = describe_encoder(Encoder.fit(renamed, COLUMNS))
    assert other["vocabulary_sha256"] != first["vocabulary_sha256"]
    dearer = describe_encoder(Encoder.fit(frame().assign(price=lambda r: r["price"] * 2), COLUMNS))
    assert dearer["vocabulary_sha256"] == first["vocabulary_sha256"]
    assert dearer["encoder_sha256"] != first["encoder_sha256"]


def test_other_values_than_those_that_were_saved_are_refused(encoder: Encoder) -> None:
    values = vocabulary_table(encoder)
    values.loc[3, "value"] = "99"
    with pytest.raises(ValueError, match="not those"):
        restore_encoder(values, json.loads(json.dumps(describe_encoder(encoder))))


def test_given_scalers_are_kept() -> None:
    kept = {"price": Scaler(log=False, mean=3.0, deviation=2.0)}
    data = assemble(parts(frame()), COLUMNS, scalers=kept)
    expected = (frame()["price"][:20].to_numpy() - 3) / 2
    assert np.allclose(data.train.batch.dense[:, 0], expected, atol=1e-6)
    assert data.encoder is not None
    assert data.encoder.scalers["views"] == Encoder.fit(frame()[:20], COLUMNS).scalers["views"]


def test_keys_are_of_values_and_not_of_places() -> None:
    whole = frame()
    rows = assemble(parts(whole), COLUMNS).row_keys
    assert rows is not None
    assert [*rows["row"]] == [*range(1, 41)]
    assert rows["key"].nunique() == len(whole.drop_duplicates())
    shuffled = whole.sample(frac=1, random_state=0)
    again = assemble(parts(shuffled[["click", *whole.columns[:-1]]]), COLUMNS).row_keys
    assert again is not None
    by_row = rows.set_index("row")["key"]
    assert all(again["key"].to_numpy() == by_row.loc[again["row"]].to_numpy())
    flipped = assemble(parts(whole.assign(click=1 - whole["click"])), COLUMNS).row_keys
    assert flipped is not None
    assert not {*flipped["key"]} & {*rows["key"]}


def test_overlap_counts_held_out_rows_that_were_trained_on() -> None:
    rows = pd.DataFrame({
        "split": ["train"] * 3 + ["val"] * 2 + ["test"] * 3,
        "key": np.array([1, 2, 3, 3, 4, 5, 6, 6], np.uint64),
    })  # fmt: skip
    found = [*overlap(rows, np.array([3, 6, 7], np.uint64))]
    assert found == [("val", 2, 1, 1), ("test", 3, 2, 0)]

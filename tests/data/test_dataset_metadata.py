"""The metadata of a dataset against pandas on its tensors, column by column."""

from __future__ import annotations

import json
from collections.abc import Callable

import pandas as pd
import pytest
import torch

from glassrec.artifacts import Facts
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, GroundTruth, Split
from glassrec.data.dataset_metadata import collect_metadata
from glassrec.data.schema import Schema


def test_rows_tasks_and_histories_are_those_of_the_splits(dataset: Dataset) -> None:
    found = collect_metadata(dataset)
    assert found["rows"] == {"train": 60, "val": 30, "test": 20}
    assert found["lists"] == {}
    assert found["negatives"] is None
    assert found["dense"] == ["I1", "I2", "I3"]
    assert (found["user"], found["item"]) == ("user", "item")
    assert [(task["name"], task["kind"]) for task in found["tasks"]] == [
        ("label", "click"), ("stars", "rating"),
    ]  # fmt: skip
    for name, split in dataset.splits.items():
        targets = pd.DataFrame(split.batch.targets.numpy())
        for column, task in enumerate(found["tasks"]):
            assert task["mean"][name] == pytest.approx(targets[column].mean())
        items = pd.DataFrame(split.batch.history.numpy()).replace(0, None).count(axis=1)
        assert found["history"]["items"][name] == pytest.approx(items.mean())
    assert found["history"]["length"] == 4


def test_a_value_is_unknown_where_it_is_the_first_row_of_its_field(dataset: Dataset) -> None:
    found = {field["name"]: field for field in collect_metadata(dataset)["fields"]}
    assert {n: (f["values"], f["per_row"]) for n, f in found.items()} == {
        "C1": (3, 1), "user": (6, 1), "C2": (4, 3), "item": (8, 1),
    }  # fmt: skip
    # In the embedding table C1 begins at 0, user at 4, C2 at 11 and item at 16; -1 is no value.
    columns = {"C1": ([0], 0), "user": ([1], 4), "C2": ([2, 3, 4], 11), "item": ([5], 16)}
    for split in ("val", "test"):
        ids = pd.DataFrame(dataset.splits[split].batch.ids.numpy())
        for name, (places, first) in columns.items():
            values = ids[places].stack()
            values = values[values >= 0]
            assert found[name]["unseen"][split] == pytest.approx((values == first).mean())
            assert 0 < found[name]["unseen"][split] < 1


def test_lists_are_counted_and_effects_kept(
    schema: Schema, rows: Callable[..., Batch], dataset: Dataset
) -> None:
    lists = Split(rows(20), torch.arange(5).repeat_interleave(4))
    truth = GroundTruth({"I1": 0.5}, {("I1", "C1"): 0.25})
    found = collect_metadata(Dataset(schema, dataset.train, lists, lists, ground_truth=truth))
    assert found["lists"] == {"val": 5, "test": 5}
    assert found["truth"] == {"main": [["I1", 0.5]], "pairs": [["I1", "C1", 0.25]]}


def test_it_is_plain_and_the_same_each_time(dataset: Dataset, tmp_path) -> None:
    Facts(collect_metadata(dataset)).save(tmp_path / "one.json")
    Facts(collect_metadata(dataset)).save(tmp_path / "other.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()
    assert json.loads((tmp_path / "one.json").read_text())["fields"][1]["name"] == "user"

"""Rows of other types and tasks, by encoders that are fitted here."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.data.columns import Columns
from glassrec.data.encoding import Encoder
from glassrec.data.schema import Field, Schema, Target
from glassrec.inference.predict import predictions
from glassrec.inference.rows import RawRows, encode_frame, read_rows

LOG = pd.DataFrame({"user": [10, 20, 20], "item": [7, 8, 9], "age": [18.0, 30.0, 60.0]})
HEADER = "user,item,age,history\n"
COLUMNS = Columns(user="user", item="item", dense=("age",))


def run_of(history: int = 0) -> Any:
    """The part of a run that reads rows with whole numbers as ids."""
    encoder = Encoder.fit(LOG, COLUMNS, history=history)
    config = SimpleNamespace(config={"data": {}})
    schema = encoder.schema
    return SimpleNamespace(
        encoder=encoder, columns=COLUMNS, schema=schema, reads=schema, run=config
    )


def test_ids_that_are_whole_numbers(tmp_path: Path) -> None:
    expected = [[1, 3 + 2], [0, 3 + 0], [2, 3 + 3]]
    rows = pd.DataFrame({"age": [20, 30, 40], "item": [8, 99, 9], "user": [10, 11, 20]})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    rows.astype({"user": float, "item": "Int64"}).to_parquet(tmp_path / "rows.parquet")
    rows.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    for name in ("rows.csv", "rows.parquet", "rows.jsonl"):
        (found,) = read_rows(run_of(), tmp_path / name)
        assert found.batch.ids.tolist() == expected, name
        assert found.unseen.tolist() == ["", "user=11; item=99", ""]
    for frame in (rows, rows.astype(object), rows.astype(str), rows.astype({"item": "category"})):
        assert encode_frame(run_of(), frame).batch.ids.tolist() == expected


@pytest.mark.parametrize("user", ["ten", "10.5", "", None, 10.5])
def test_an_id_that_is_no_whole_number_is_refused(tmp_path: Path, user: object) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"user": user, "item": 7, "age": 20}))
    with pytest.raises(ValueError, match=r"rows.jsonl, line 1: user is .*not a whole number"):
        list(read_rows(run_of(), path))
    with pytest.raises(ValueError, match=r"the frame, row 1: user is .*not a whole number"):
        encode_frame(run_of(), pd.DataFrame({"user": [user], "item": [7], "age": [20]}))


def test_a_row_may_hold_its_history(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "user,item,age,history\n10,7,20,9|5|8\n10,7,20,\n10,7,20,8\n"
    )
    (found,) = read_rows(run_of(history=2), tmp_path / "rows.csv")
    assert found.batch.history.tolist() == [[3 + 0, 3 + 2], [0, 0], [0, 3 + 2]]
    (tmp_path / "rows.csv").write_text(f"{HEADER}10,7,20,9|x\n")
    with pytest.raises(ValueError, match=r"line 2: history is '9\|x'"):
        list(read_rows(run_of(history=2), tmp_path / "rows.csv"))


def test_each_task_has_a_prediction_of_its_kind() -> None:
    kinds = Target("clicked"), Target("stars", "rating", 3.0, 1.0), Target("found", "retrieval")
    model = SimpleNamespace(predict=lambda batch: torch.tensor([[0.0, 3.5, -1.0]]))
    schema = Schema(fields=(Field("user", 2),), targets=kinds)
    run: Any = SimpleNamespace(schema=schema, recommender=lambda name: model)
    empty = torch.zeros(1, 0)
    rows = RawRows(LOG[:1], LOG[:1], empty, np.array([""], object), 0, [1])  # type: ignore[arg-type]
    assert predictions(run, rows).iloc[0].to_dict() == {
        "clicked/probability": 0.5, "clicked/logit": 0.0, "stars/estimate": 3.5,
        "stars/logit": 3.5, "found/score": -1.0, "found/logit": -1.0, "unseen": "",
    }  # fmt: skip

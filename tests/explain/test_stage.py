"""What the explanation stage makes of several tasks."""

from __future__ import annotations

from dataclasses import replace

from glassrec.data.dataset import Dataset
from glassrec.data.schema import Target
from glassrec.explain.stage import Explain
from glassrec.models.two_tower import TwoTower


def test_a_unit_that_only_another_task_reads_is_not_silent(dataset: Dataset) -> None:
    schema = replace(
        dataset.schema, targets=(Target("find", "retrieval"), Target("stars", "rating"))
    )
    data, model = replace(dataset, schema=schema), TwoTower(schema, towers=(8,), head=(8,))
    scores = Explain(task="find", rows=20, steps=4).neurons(model, data, seed=0).frame
    head, product = (scores[scores["layer"] == name] for name in ("head.0", "product"))
    assert (head["mean_abs"] == 0).all()
    assert head["max_abs"].max() > 0
    assert product["mean_abs"].min() > 0


def test_of_one_row_and_task_mean_and_maximum_are_one(dataset: Dataset) -> None:
    schema = replace(dataset.schema, targets=(Target("label"),))
    model = TwoTower(schema, towers=(8,), head=(8,))
    scores = Explain(rows=1, steps=4).neurons(model, replace(dataset, schema=schema), 0).frame
    assert scores["mean_abs"].equals(scores["max_abs"])

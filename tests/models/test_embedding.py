"""The embedding dimensions that towers read: what they are called, and what a cut of them does."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.explain.features import build_feature_mask
from glassrec.models.base import Recommender
from glassrec.models.layers import Dimensions

Build = Callable[..., Recommender]


def test_field_by_field_and_called_by_the_column_of_the_joint_row() -> None:
    layer = Dimensions(["user", "item"], range(4, 7))
    fields = torch.arange(12.0).view(2, 2, 3)
    assert layer(fields).tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert layer.neuron_names("embedding")[2:4] == ["user[6]", "item[4]"]
    layer.register_consumer(torch.nn.Identity())
    assert layer.not_prunable_reason
    layer = Dimensions(["user", "item"], range(4, 7))
    layer.units = torch.tensor([1, 2, 5])
    assert layer(fields).tolist() == [[1, 2, 5], [7, 8, 11]]
    assert layer.neuron_names("embedding") == ["user[5]", "user[6]", "item[6]"]
    assert layer.read.tolist() == [[False, True, True], [False, False, True]]


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("mlp", ["embedding"]),
        ("neumf", ["embedding"]),
        ("dnn", ["embedding"]),
        ("lstm", ["embedding"]),
        ("two_tower", ["query_embedding", "candidate_embedding"]),
    ],
)
def test_units_are_called_as_players_are(build: Build, name: str, layers: list[str]) -> None:
    model = build(name)
    view = build_feature_mask(model.schema, model.width, "dimensions", model.device)
    names = [unit for layer in layers for unit in model.layers[layer].neuron_names(layer)]
    beside = {*model.schema.dense, *(p for p in view.features if p.startswith("history"))}
    first = model.factors if name == "neumf" else 0
    expected = [p for p in view.features if p not in beside and int(p[:-1].split("[")[1]) >= first]
    assert names == expected


def test_an_embedding_stands_before_the_tower_that_reads_it(build: Build) -> None:
    assert [*build("two_tower").layers][:3] == [
        "query_embedding", "query_tower.0", "candidate_embedding",
    ]  # fmt: skip
    assert [*build("neumf", hidden=[4]).layers] == ["product", "embedding", "tower.0"]
    assert [*build("lstm", tower=[4]).layers] == ["recurrent", "embedding", "tower.0"]


@pytest.mark.parametrize("name", ["dnn", "two_tower"])
def test_a_side_without_fields_has_no_such_layer(
    build: Build, schema: Schema, batch: Batch, name: str
) -> None:
    model = build(name)
    if name == "dnn":
        bare = type(model)(schema, fields=[])
    else:
        bare = type(model)(replace(schema, item_side=schema.field_names))
    assert bare(batch).isfinite().all()
    gone = "embedding" if name == "dnn" else "query_embedding"
    assert gone in model.layers
    assert gone not in bare.layers


@pytest.mark.parametrize("name", ["dnn", "lstm", "two_tower"])
def test_dense_columns_and_states_stay_where_a_dimension_goes(
    build: Build, batch: Batch, name: str
) -> None:
    """The dimension that goes is held at its constant in the table of the other model."""
    model = build(name, **({"reads": "all"} if name == "lstm" else {})).double()
    batch = batch._replace(dense=batch.dense.double())
    held, small = deepcopy(model), deepcopy(model)
    start = model.schema.offsets[model.schema.field_index("C1")]
    with torch.no_grad():
        held.table.weight[start : start + 4, 2] = 0.7
    layer = next(la for n, la in small.layers.items() if "C1[2]" in la.neuron_names(n))
    kept = [i for i, unit in enumerate(layer.neuron_names("")) if unit != "C1[2]"]
    layer.keep(torch.tensor(kept), torch.full((len(layer.units),), 0.7, dtype=torch.float64))
    small.narrow()
    torch.testing.assert_close(small(batch), held(batch), rtol=0, atol=1e-12)
    assert (held(batch) - model(batch)).abs().max() > 1e-3

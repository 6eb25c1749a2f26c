"""What units can emit over every input: held against random rows, and against all there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from math import inf

import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.schema import ABSENT, Schema, Target
from glassrec.models.base import Recommender
from glassrec.models.dcn import DNN
from glassrec.models.layers import Affine, activations
from glassrec.models.lstm import LSTM
from glassrec.models.ncf import GMF, MLP, NeuMF
from glassrec.models.sasrec import SASRec
from glassrec.prune.guarantees.ranges import (
    ActivationRange,
    activation_ranges,
    count_inputs,
    domain_ranges,
    enumerate_inputs,
    input_bounds,
    interval_ranges,
    scope,
)

RANGES = ((-1.5, 0.5), (0.0, 2.0), (-1.0, 1.0))


@pytest.fixture
def schema(schema: Schema) -> Schema:
    """With a range for each dense column; the models of `build` know it."""
    return replace(schema, ranges=RANGES)


def _double(batch: Batch, ranges: tuple[tuple[float, float], ...] = RANGES) -> Batch:
    """In float64, with dense columns pressed into their ranges."""
    low, high = torch.tensor(ranges).double().T
    return batch._replace(dense=batch.dense.double().clamp(low, high))


def _heard(model: Recommender, batch: Batch) -> dict[str, Tensor]:
    """(N, U) of each layer, all steps of a recurrent one among the rows."""
    with torch.no_grad(), activations(model.layers) as heard:
        model(batch)
    return {name: torch.cat(several) for name, several in heard.items()}


def _holds(found: ActivationRange, values: Tensor) -> bool:
    return bool(((found.low - 1e-12 <= values) & (values <= found.high + 1e-12)).all())


Rows = Callable[..., Batch]


def _check(model: Recommender, rows: Rows, scale: float) -> None:
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    found = interval_ranges(model)
    assert [*found] == [*model.layers]
    for layer, values in _heard(model, _double(rows(3000, seed=int(10 * scale)))).items():
        assert values.shape[1] == len(found[layer].low)
        assert found[layer].high.isfinite().all()
        assert _holds(found[layer], values), layer


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_no_row_lies_outside(model: Recommender, rows: Rows, scale: float) -> None:
    if isinstance(model, SASRec):  # no bounds are known through attention
        with pytest.raises(ValueError, match=r"bounds over all inputs.*set prune\.level=data"):
            interval_ranges(model)
    else:
        _check(model, rows, scale)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lstm", {"cell": "gru", "reads": "all"}),
        ("dcn", {"projection_dim": 3, "structure": "parallel", "cross_layers": 2}),
    ],
)
def test_no_row_lies_outside_in_other_settings(
    build: Callable[..., Recommender], rows: Rows, name: str, settings: dict[str, object]
) -> None:
    _check(build(name, **settings), rows, 1.0)


def _all_rows(schema: Schema) -> Batch:
    """Every id of every field, one value each, at every corner of the dense ranges."""
    starts = zip(schema.fields, schema.offsets, strict=True)
    ids = torch.cartesian_prod(*(torch.arange(f.size) + start for f, start in starts))
    full = torch.full((len(ids), sum(f.values for f in schema.fields)), ABSENT)
    full[:, [schema.id_columns(f.name).start for f in schema.fields]] = ids
    corners = torch.tensor([*product(*schema.ranges)]).double()
    return Batch(
        corners.repeat(len(ids), 1),
        full.repeat_interleave(len(corners), 0),
        torch.zeros(len(ids) * len(corners), schema.history_length, dtype=torch.long),
        torch.zeros(len(ids) * len(corners), len(schema.targets)),
    )


def _attained(found: ActivationRange, values: Tensor) -> bool:
    return torch.allclose(found.low, values.amin(0), rtol=0, atol=1e-12) and torch.allclose(
        found.high, values.amax(0), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("name", "layer"),
    [("mlp", "tower.0"), ("dlrm", "bottom.0"), ("two_tower", "query_tower.0"),
     ("two_tower", "candidate_tower.0"), ("gmf", "product"), ("neumf", "tower.0")],
)  # fmt: skip
def test_the_bounds_of_a_first_layer_are_attained(
    build: Callable[..., Recommender], schema: Schema, name: str, layer: str
) -> None:
    model = build(name, **({"bottom": [16], "top": [4]} if name == "dlrm" else {})).double()
    assert _attained(interval_ranges(model)[layer], _heard(model, _all_rows(schema))[layer])


def test_the_bounds_over_dense_columns_and_fields_together_are_attained(
    build: Callable[..., Recommender], schema: Schema
) -> None:
    model = build("dnn", hidden=[12], embedding=4).double()
    assert _attained(interval_ranges(model)["tower.0"], _heard(model, _all_rows(schema))["tower.0"])


def test_units_that_cannot_fire_or_vary_are_found_and_no_others(
    build: Callable[..., Recommender], schema: Schema
) -> None:
    model = build("dnn", hidden=[6, 4], embedding=4).double()
    first, second = model.tower
    with torch.no_grad():
        first.affine.bias.fill_(0.1)
        first.affine.bias[1] = -1000  # its weights are not zero
        first.affine.weight[2], first.affine.bias[2] = 0, 1.25
        second.affine.bias.fill_(0.1)
        second.affine.weight[3].abs_().neg_()  # above units that never go below zero
        second.affine.bias[3] = 0
        second.affine.weight[0, [0, 3, 4, 5]] = 0  # reads constant units only
        expected = second.affine.weight[0, 2] * 1.25 + 0.1
    found = interval_ranges(model)
    assert found["tower.0"].constant.nonzero().flatten().tolist() == [1, 2]
    assert found["tower.0"].low[[1, 2]].tolist() == [0, 1.25]
    assert found["tower.1"].constant.nonzero().flatten().tolist() == [0, 3]
    torch.testing.assert_close(found["tower.1"].low[0], expected.clamp(min=0))
    assert found["tower.1"].high[3] == 0


@pytest.mark.parametrize("kind", [MLP, DNN])
def test_a_unit_that_one_unheard_combination_fires_is_not_given_up(
    kind: type[Recommender], schema: Schema, rows: Rows
) -> None:
    """User 3 with item 5 alone; no row holds both."""
    data = replace(schema, dense=(), ranges=(), history_length=0)
    only = {"hidden": [4]} if kind is MLP else {"fields": ["user", "item"], "hidden": [4]}
    model = kind(data, **only).double().eval()
    with torch.no_grad():
        weight, bias = model.tower.first.affine.weight, model.tower.first.affine.bias
        model.table.weight.normal_()
        model.table.weight[:, 0] = 0
        model.table.weight[[3, 7 + 5], 0] = 1
        weight[0], bias[0] = 0, -1.5
        weight[0, [0, model.width]] = 1
    batch = rows(300)._replace(dense=torch.zeros(300, 0).double())
    user, item = (batch.ids[:, data.id_columns(name)] for name in ("user", "item"))
    start = {name: data.offsets[data.field_index(name)] for name in ("user", "item")}
    both = ((user == start["user"] + 3) & (item == start["item"] + 5)).flatten()
    assert both.any()
    batch = batch.select((~both).nonzero().flatten())
    assert activation_ranges(model, [batch])["tower.0"].constant[0]
    found = domain_ranges(model, data)
    assert "63 combinations of user and item" in scope(model.schema)
    for emission in (found["tower.0"], interval_ranges(model)["tower.0"]):
        assert not emission.constant[0]
        assert emission.low[0] == 0
        assert emission.high[0] == pytest.approx(0.5)


@pytest.mark.parametrize("kind", [GMF, MLP, NeuMF])
def test_every_combination_is_tried(kind: type[Recommender], schema: Schema) -> None:
    torch.manual_seed(0)
    model = kind(schema, factors=2).double().eval()
    with torch.no_grad():
        model.table.weight.normal_()
    users, items = model.table.weight.split([7, 9])
    rows = [torch.cat(pair) for pair in product(users, items)]
    found = domain_ranges(model, schema, chunk=10)
    assert scope(model.schema) == "all 63 combinations of user and item"
    width = {GMF: 2, NeuMF: 2, MLP: 0}[kind]
    for name, layer in found.items():
        if name == "product":
            values = torch.stack([r[:2] * r[model.width : model.width + 2] for r in rows])
        else:
            values = torch.stack(
                [torch.cat([r[width : model.width], r[model.width + width :]]) for r in rows]
            )
            below_it = 0 if name == "embedding" else int(name[-1]) + 1
            for below in [*model.tower][:below_it]:
                affine = below.affine
                values = (values @ affine.weight.T + affine.bias).clamp(min=0)
        torch.testing.assert_close(layer.low, values.amin(0))
        torch.testing.assert_close(layer.high, values.amax(0))
        torch.testing.assert_close(layer.mean, values.mean(0))


def test_combinations_are_rows_of_the_data_and_each_comes_once(schema: Schema) -> None:
    reads = schema.select(fields=["item", "user"])
    batches = [*enumerate_inputs(schema, reads, chunk=10)]
    assert [batch.rows for batch in batches] == [10] * 6 + [3]
    ids = torch.cat([batch.ids for batch in batches])
    starts, columns = dict(zip(schema.field_names, schema.offsets, strict=True)), schema.id_columns
    seen = {(r[columns("item")[0]] - starts["item"], r[columns("user")[0]] - starts["user"])
            for r in ids.tolist()}  # fmt: skip
    assert seen == {*product(range(9), range(7))}
    assert (ids[:, 0] == 0).all()
    assert (ids[:, list(columns("C2"))] == starts["C2"]).all()
    assert GMF(schema)(batches[0]).shape == (10, 2)


def test_too_many_combinations_and_other_inputs_get_interval_bounds(
    build: Callable[..., Recommender], schema: Schema
) -> None:
    model = build("gmf").double()
    assert count_inputs(model.schema, 63) == 63
    assert count_inputs(model.schema, 62) is None
    found = domain_ranges(model, schema, limit=62)
    assert scope(model.schema, 62) == "interval bounds over all ids"
    assert _attained(found["product"], emitted_values(model, schema))
    assert count_inputs(build("dnn", fields=["C2"]).schema) is None  # several values
    assert count_inputs(build("lstm").schema) is None  # a history
    assert count_inputs(build("dlrm").schema) is None  # dense columns


def emitted_values(model: Recommender, schema: Schema) -> Tensor:
    """(63, U): what the product emits for all users and items."""
    (batch,) = enumerate_inputs(schema, model.schema)
    return _heard(model, _double(batch))["product"]


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        (RANGES, "interval bounds over all ids; dense columns within their declared ranges"),
        ((), "interval bounds over all ids; no bound on I1, I2 and I3"),
        (((0, inf), *RANGES[1:]),
         "interval bounds over all ids; dense columns within their declared ranges; "
         "no bound on I1"),
    ],
)  # fmt: skip
def test_the_ground_tells_which_columns_have_no_bound(
    schema: Schema, ranges: tuple[tuple[float, float], ...], words: str
) -> None:
    assert scope(DNN(replace(schema, ranges=ranges)).schema) == words


def test_a_dense_column_without_a_range_proves_only_what_does_not_read_it(
    schema: Schema, rows: Rows
) -> None:
    data = replace(schema, ranges=())
    torch.manual_seed(0)
    model = DNN(data, embedding=2, hidden=[5, 3]).double().eval()
    with torch.no_grad():
        weight, bias = model.tower.first.affine.weight, model.tower.first.affine.bias
        weight[:2, :3] = 0  # reads no dense column
        bias[:2] = torch.tensor([-1000.0, 1000.0])
        weight[2], bias[2] = 0, 0.5
        weight[3, 1:3] = 0
    found = interval_ranges(model)["tower.0"]
    assert found.constant.tolist() == [True, False, True, False, False]
    assert found.high.isinf().tolist() == [False, False, False, True, True]
    assert found.low.isfinite().all()
    values = _heard(model, _double(rows(500), ((-9.0, 9.0),) * 3))["tower.0"]
    assert _holds(found, values)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_recurrent_unit_is_bounded_from_the_zero_before_its_first_step(
    schema: Schema, rows: Rows, cell: str
) -> None:
    torch.manual_seed(0)
    model = LSTM(schema, embedding=3, hidden=4, cell=cell).double().eval()
    maps = [module for module in model.recurrent.cell.modules() if isinstance(module, Affine)]
    new = maps[-1]
    with torch.no_grad():
        last = slice(-4, None)  # these rows make what is new in each unit
        new.weight[last][0], new.bias[last][0] = 0, 0  # nothing ever
        new.weight[last][1], new.bias[last][1] = 0, 50.0  # one, from the first step on
    found = interval_ranges(model)["recurrent"]
    assert found.constant.tolist() == [True, False, False, False]
    assert found.low[0] == found.high[0] == found.low[1] == 0
    assert found.high[1] > 0.1
    assert _holds(found, _heard(model, _double(rows(2000)))["recurrent"])


def test_a_model_of_the_users_own_is_bounded(schema: Schema, rows: Rows) -> None:
    schema = replace(schema, targets=(Target("label"),))

    class Own(Recommender):
        def __init__(self) -> None:
            super().__init__(schema, schema.select(dense=("I2",), fields=["C2"]), 3)
            body = [torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1)]
            self.body = torch.nn.Sequential(*body)

        def score(self, inputs):
            x = torch.cat([inputs.fields.flatten(1), inputs.dense], dim=1)
            return torch.sigmoid(self.body(x) * 2 - x @ torch.ones_like(x[:1]).T)

    model = Own().double().eval()
    with torch.no_grad():
        found = model.score(input_bounds(model))
        values = model(_double(rows(2000)))
    assert ((found.low - 1e-12 <= values) & (values <= found.high + 1e-12)).all()
    assert 0 < found.low.item() < values.min().item() + 1e-12


def test_an_operation_without_a_rule_is_refused(schema: Schema) -> None:
    class Strange(DNN):
        def score(self, inputs):
            return torch.softmax(super().score(inputs), 1)

    with pytest.raises(ValueError, match=r"'softmax'; set prune.level=data"):
        domain_ranges(Strange(schema).double().eval(), schema)

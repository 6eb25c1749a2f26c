"""DCN and DNN against the formulas of the paper, and the published toy function."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema, Target
from glassrec.explain import explanation_tables as tables
from glassrec.explain.explainer import Explain
from glassrec.models.base import Recommender
from glassrec.models.dcn import DCN, DNN, CrossNetwork
from glassrec.training.objective import Objective


def _start(model: Recommender, batch: Batch) -> Tensor:
    """x₀, row by row: dense columns, then fields."""
    inputs = model.embed(batch)
    rows = zip(inputs.dense, inputs.fields, strict=True)
    return torch.stack([torch.cat([dense, *fields]) for dense, fields in rows]).detach()


def _tower(model: Recommender, hidden: Tensor) -> Tensor:
    for layer in model.tower:
        hidden = (hidden @ layer.affine.weight.T + layer.affine.bias).clamp(min=0)
    return hidden


def _last(model: Recommender, hidden: Tensor) -> Tensor:
    return hidden @ model.output.weight.T + model.output.bias


def test_one_cross_layer_by_hand() -> None:
    network = CrossNetwork(2, 1, None)
    with torch.no_grad():
        network[0].affine.weight.copy_(torch.tensor([[1.0, 2], [3, 4]]))
        network[0].affine.bias.copy_(torch.tensor([10.0, -5]))
    # x₀ = (2, 3): W x + b = (2 + 6 + 10, 6 + 12 − 5) = (18, 13), times x₀ = (36, 39), plus x
    assert network(torch.tensor([[2.0, 3]])).tolist() == [[38, 42]]


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
@pytest.mark.parametrize("rank", [None, 5])
def test_the_whole_network_is_the_papers(
    build: Callable[..., DCN], batch: Batch, structure: str, rank: int | None
) -> None:
    model = build(
        "dcn", embedding=2, cross_layers=2, projection_dim=rank, deep=[7, 3], structure=structure
    )
    start = x = _start(model, batch)
    for layer in model.cross:
        weight = layer.affine.weight
        if rank is not None:
            assert (weight.shape, layer.projection.weight.shape) == ((11, rank), (rank, 11))
            weight = weight @ layer.projection.weight
        x = start * (x @ weight.T + layer.affine.bias) + x
    crossed = x
    if structure == "parallel":
        expected = _last(model, torch.cat([crossed, _tower(model, start)], 1))
    else:
        expected = _last(model, _tower(model, crossed))
    torch.testing.assert_close(model(batch), expected)


def test_without_a_tower_the_output_reads_the_cross_network(
    build: Callable[..., DCN], batch: Batch
) -> None:
    for structure in ("stacked", "parallel"):
        model = build("dcn", embedding=2, deep=[], structure=structure)
        torch.testing.assert_close(model(batch), _last(model, model.cross(_start(model, batch))))
        assert not model.layers


def test_dnn_is_a_tower_of_the_same_size(build: Callable[..., DNN], batch: Batch) -> None:
    model = build("dnn", embedding=2, hidden=[6, 4])
    torch.testing.assert_close(model(batch), _last(model, _tower(model, _start(model, batch))))
    # The published pair: 192 inputs, a cross layer of 192 × 192 and a tower of 192-192.
    schema = Schema((), tuple(Field(name, 5) for name in "abcdef"))
    assert DNN(schema).parameter_count == DCN(schema).parameter_count


def test_the_components_of_a_low_rank_layer_can_go(build: Callable[..., DCN], batch: Batch) -> None:
    model = build("dcn", cross_layers=2, projection_dim=6, deep=[4]).double()
    batch = batch._replace(dense=batch.dense.double())
    layer = model.cross[1].projection
    assert [*model.layers] == ["cross.0.projection", "cross.1.projection", "tower.0"]
    assert layer.neuron_names("cross.1.projection")[2] == "cross.1.projection[2]"
    small, fresh = deepcopy(model), deepcopy(model)
    constants = torch.tensor([0, 0.7, 0, 0, -2, 0]).double()
    small.cross[1].projection.keep(torch.tensor([0, 2, 3, 5]), constants)
    handle = layer.register_forward_hook(lambda *_: _[2].index_copy(1, gone, held))
    gone, held = torch.tensor([1, 4]), constants[[1, 4]].expand(batch.rows, 2)
    torch.testing.assert_close(small(batch), model(batch), rtol=0, atol=1e-9)
    handle.remove()
    assert (small(batch) - model(batch)).abs().max() > 0.01
    assert small.cross[1].projection.weight.shape == (4, 131)
    assert small.cross[1].affine.weight.shape == (131, 4)
    fresh.load(small.state_dict(), "here")
    assert torch.equal(fresh(batch), small(batch))


@pytest.mark.parametrize("name", ["dcn", "dnn"])
@pytest.mark.parametrize("fields", [["C1"], ["item", "C1"], ["C2", "user"], []])
def test_the_chosen_fields_are_read_and_no_others(
    build: Callable[..., Recommender], batch: Batch, name: str, fields: list[str]
) -> None:
    model = build(name, embedding=3, fields=fields)
    assert model.embed(batch).fields.shape == (batch.rows, len(fields), 3)
    assert model.table.weight.shape[0] == sum(
        {"C1": 4, "user": 7, "C2": 5, "item": 9}[f] for f in fields
    )
    columns = {"C1": [0], "user": [1], "C2": [2, 3, 4], "item": [5]}
    first = {"C1": 0, "user": 4, "C2": 11, "item": 16}
    for unread in set(columns) - set(fields):
        ids = batch.ids.clone()
        ids[:, columns[unread]] = first[unread]
        assert torch.equal(model(batch._replace(ids=ids)), model(batch))
    for read in fields:
        ids = batch.ids.clone()
        ids[:, columns[read]] = first[read]
        assert not torch.equal(model(batch._replace(ids=ids)), model(batch))


@pytest.mark.parametrize("kind", [DCN, DNN])
def test_data_without_dense_columns_and_data_without_fields(kind: type[Recommender]) -> None:
    none = torch.empty(2, 0)
    only_fields = Schema((), (Field("a", 3), Field("b", 2)))
    batch = Batch(none, torch.tensor([[1, 3], [2, 4]]), none.long(), none)
    assert kind(only_fields)(batch).shape == (2, 1)
    only_dense = Schema(("x", "y"), ())
    batch = Batch(torch.randn(2, 2), none.long(), none.long(), none)
    assert kind(only_dense)(batch).shape == (2, 1)
    with pytest.raises(ValueError, match=f"{kind.__name__} has nothing to read"):
        kind(only_fields, fields=[])
    with pytest.raises(ValueError, match=r"no field 'c'.*choices: a, b"):
        kind(only_fields, fields=["c"])


def test_block_norms_against_loops(build: Callable[..., DCN]) -> None:
    for rank in (None, 4):
        model = build("dcn", embedding=2, cross_layers=2, projection_dim=rank)
        kernel = model.cross[0].kernel.detach()
        edges = [(0, 1), (1, 2), (2, 3), (3, 5), (5, 7), (7, 9), (9, 11)]
        for i, (top, bottom) in enumerate(edges):
            for j, (left, right) in enumerate(edges):
                blocks = [kernel[top:bottom, left:right]]
                if i != j:
                    blocks.append(kernel[left:right, top:bottom])
                expected = torch.cat([block.flatten() for block in blocks]).norm()
                torch.testing.assert_close(model.feature_pairs()[i, j], expected)


def _toy(rows: int, seed: int) -> Split:
    """y = .1x₁ + .4x₂ + .7x₃ + .1x₁x₂ + 3.1x₂x₃ + .1x₃², with x uniform on [0, 1].

    The tutorial of TensorFlow Recommenders draws x uniformly from a grid on [0, 1).
    """
    x = torch.rand(rows, 3, generator=torch.Generator().manual_seed(seed))
    a, b, c = x.T
    y = 0.1 * a + 0.4 * b + 0.7 * c + 0.1 * a * b + 3.1 * b * c + 0.1 * c**2
    none = torch.empty(rows, 0, dtype=torch.long)
    return Split(Batch(x, none, none, y[:, None]))


def test_one_cross_layer_learns_the_toy_function_and_tells_its_pair() -> None:
    schema = Schema(("x1", "x2", "x3"), (), (Target("y", "rating"),))
    data = Dataset(schema, _toy(2000, 0), _toy(500, 1), _toy(500, 2))
    torch.manual_seed(0)
    model = DCN(schema, cross_layers=1, deep=())
    loss = Objective().build_loss(data)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model, data.train.batch)
        value.backward()
        return value

    optimizer.step(closure)
    test = data.test.batch
    assert (model.predict(test) - test.targets).square().mean().sqrt() < 0.01
    norms = model.feature_pairs()
    assert norms[1, 2] == norms.triu(1).max()
    for baseline in ("zero", "mean", "unseen", "background"):
        pairs = tables.pair_table(Explain(baseline=baseline).build_explainer(model, data, 0))
        assert pairs[["first", "second"]].iloc[0].tolist() == ["x2", "x3"]
        assert pairs["mean_abs"].iloc[0] > 5 * pairs["mean_abs"].iloc[1]
        assert pairs["weight_norm"].iloc[0] == pytest.approx(norms[1, 2].item())

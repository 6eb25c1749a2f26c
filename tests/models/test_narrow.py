"""Tables that store only what is read: NaN everywhere else, counts by hand, and everyday use."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.explain.features import Granularity, build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.path import BaselineKind, build_baseline
from glassrec.models.base import Inputs, Recommender

Build = Callable[..., Recommender]
WHOLE = ("dcn", "popularity", "sasrec")  # nothing of their tables can go


def _cut(model: Recommender, seed: int) -> None:
    """Some units of every layer go, and leave constants."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.layers.values():
        units = len(layer.units)
        gone = torch.rand(units, generator=generator) < 0.4
        gone[seed % units] = False
        constants = torch.randn(units, generator=generator)
        layer.keep((~gone).nonzero().flatten(), constants.where(layer.foldable(constants), 0))


def _without_nan(model: Recommender, gone: Tensor, batch: Batch) -> Tensor:
    """(B, K): which logits stay numbers, with NaN in the numbers (F, E) of an un-narrowed table."""
    spoilt = deepcopy(model)
    for field, start, columns in zip(model.schema.fields, model.schema.offsets, gone, strict=True):
        spoilt.table.weight.data[start : start + field.size, columns] = torch.nan
    return ~spoilt(batch).isnan()


@pytest.fixture
def cut(model: Recommender) -> Recommender:
    """Each model without some of its units, its table as it was."""
    _cut(model, 0)
    return model


def test_what_is_not_read_matters_to_no_logit_and_all_else_does(
    request: pytest.FixtureRequest, cut: Recommender, batch: Batch
) -> None:
    read = cut.dimensions()
    assert bool(read.all()) == (request.node.callspec.params["model"] in (*WHOLE, "dlrm"))
    assert _without_nan(cut, ~read, batch).all()
    for place in read.nonzero().tolist():
        only = torch.zeros_like(read)
        only[*place] = True
        assert not _without_nan(cut, only, batch).all(), place


def test_narrowing_changes_no_bit_and_reloads_and_can_be_done_again(
    cut: Recommender, batch: Batch, build: Build, request: pytest.FixtureRequest
) -> None:
    small = deepcopy(cut)
    for seed in (None, 1):
        if seed is not None:
            _cut(cut, seed)
            _cut(small, seed)
        small.narrow()
        read = cut.dimensions()
        assert torch.equal(small.table.read, read)
        assert small.table.weight.shape[1] == read.sum(1).max()
        assert torch.equal(small(batch), cut(batch))
        inputs, expected = small.embed(batch), cut.embed(batch)
        assert torch.equal(inputs.fields, expected.fields * read)
        assert torch.equal(inputs.history, expected.history)
        for place, name in enumerate(small.schema.field_names):
            assert torch.equal(small.table.vectors(name), cut.table.vectors(name) * read[place])
        fresh = build(request.node.callspec.params["model"])
        fresh.load(small.state_dict(), "here")
        assert torch.equal(fresh(batch), cut(batch))
        assert fresh.parameter_count == small.parameter_count


def test_a_model_that_lost_nothing_keeps_its_very_table(model: Recommender) -> None:
    weight = model.table.weight
    model.narrow()
    assert model.table.weight is weight


@pytest.mark.parametrize("kind", ["unseen", "mean", "background", "zero"])
@pytest.mark.parametrize("features", ["fields", "dimensions"])
def test_a_narrowed_model_is_explained_as_before(
    cut: Recommender, batch: Batch, kind: BaselineKind, features: Granularity
) -> None:
    small = deepcopy(cut)
    small.narrow()
    found = []
    for model in (cut.double(), small.double()):
        inputs = Inputs(*(part.detach().double() for part in model.embed(batch)))
        base = build_baseline(model, kind, inputs).expand_to(inputs)
        mask = build_feature_mask(model.schema, model.width, features, model.device)
        found.append(IntegratedGradients(20).attribute(MaskedModel(model, mask, inputs, base), 0))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-9)


def test_the_gradients_of_what_is_stored_are_those_of_the_whole_table(
    cut: Recommender, batch: Batch
) -> None:
    small = deepcopy(cut)
    small.narrow()
    small.table.sparse = True
    for model in (cut, small):
        model(batch).square().sum().backward()
    expected = cut.table.weight.grad.split([field.size for field in cut.schema.fields])
    packed = [part[:, own] for part, own in zip(expected, small.table.read, strict=True)]
    width = small.table.weight.shape[1]
    padded = [torch.nn.functional.pad(p, (0, width - p.shape[1])) for p in packed]
    gradient = small.table.weight.grad
    assert gradient.is_sparse
    torch.testing.assert_close(gradient.to_dense(), torch.cat(padded))
    before = small.table.weight.detach().clone()
    torch.optim.SparseAdam([small.table.weight], lr=0.1).step()
    assert torch.equal(small.table.weight != before, torch.cat(padded) != 0)


def _drop(model: Recommender, layer: str, gone: Callable[[str], bool]) -> None:
    """The units of a layer with these names go."""
    home = model.layers[layer]
    kept = [i for i, name in enumerate(home.neuron_names(layer)) if not gone(name)]
    home.keep(torch.tensor(kept), torch.zeros(len(home.units)))


def test_parameters_by_hand(build: Build) -> None:
    """7 users, 9 items, ids of C1 4 and of C2 5; 3 dense columns; 2 tasks."""
    gmf = build("gmf", factors=4)
    _drop(gmf, "product", lambda name: name == "product[1]")
    gmf.narrow()
    assert gmf.parameter_count == (7 + 9) * 3 + 2 * 3 + 2

    mlp = build("mlp", factors=2)
    _drop(mlp, "embedding", lambda name: "user" in name or name in ("item[0]", "item[6]"))
    mlp.narrow()
    tower = 8 + (4 * 8 + 4) + (2 * 4 + 2)
    assert mlp.parameter_count == 9 * 6 + 8 * 6 + tower + 2 * 2 + 2

    neumf = build("neumf", factors=2)
    _drop(neumf, "embedding", lambda name: "user" in name or name in ("item[2]", "item[8]"))
    _drop(neumf, "product", lambda name: name == "product[0]")
    neumf.narrow()  # the user's factor is still read
    assert neumf.parameter_count == (7 + 9) * (1 + 6) + 8 * 6 + tower + 2 * (1 + 2) + 2

    dlrm = build("dlrm", embedding=4, bottom=[], top=[5])
    _drop(dlrm, "interaction", lambda name: "user" in name)
    dlrm.narrow()
    top = 5 * (4 + 6) + 5
    assert dlrm.parameter_count == (4 + 5 + 9) * 4 + (4 * 3 + 4) + top + 2 * 5 + 2


def test_a_table_that_nobody_reads_goes_as_a_whole(
    build: Build, batch: Batch, schema: Schema
) -> None:
    model = build("dlrm", embedding=4, bottom=[], top=[5])
    _drop(model, "interaction", lambda name: "×" in name)
    expected = model(batch)
    model.narrow()
    assert model.table.weight.shape == (0, 0)
    assert torch.equal(model(batch), expected)
    assert not model.embed(batch).fields.any()
    assert not model.table.unseen().any()
    model(batch).sum().backward()
    fresh = build("dlrm", embedding=4, bottom=[], top=[5])
    fresh.load(model.state_dict(), "here")
    assert torch.equal(fresh(batch), expected)


class Forgetful(Recommender):
    """Adds up what it reads, which is not the item."""

    def __init__(self, data: Schema) -> None:
        super().__init__(data, data.select(fields=["user", "item", "C2"], history=True), 3)

    def score(self, inputs: Inputs) -> Tensor:
        return inputs.fields[:, [0, 2], :2].flatten(1).sum(1, keepdim=True)

    def dimensions(self) -> Tensor:
        read = super().dimensions()
        read[1], read[:, 2] = False, False
        return read


def test_a_history_of_items_that_are_not_stored_is_zero(schema: Schema, batch: Batch) -> None:
    model = Forgetful(schema)
    expected = model(batch)
    assert model.embed(batch).history.any()
    model.narrow()
    assert model.table.weight.shape == (7 + 5, 2)
    assert torch.equal(model(batch), expected)
    inputs = model.embed(batch)
    assert inputs.history.shape == (batch.rows, 4, 3)
    assert not inputs.history.any()
    assert torch.equal(inputs.steps, (batch.history > 0).float())


def test_a_wrong_table_is_refused(build: Build) -> None:
    small = build("mlp", factors=2)
    _drop(small, "embedding", lambda name: "user" in name)
    small.narrow()
    state = small.state_dict()
    for wrong, why in (
        ({"table.weight": state["table.weight"][1:]}, r"table is \(8, 8\) there.*be \(9, 8\)"),
        ({"table.read": state["table.read"][:1]}, r"table is of 1 fields of 8 numbers there, of 2"),
        (
            {
                "table.read": state["table.read"].index_fill(1, torch.tensor([3]), False),
                "table.weight": state["table.weight"][:, 1:],
            },
            r"does not store all numbers of item",
        ),
    ):
        with pytest.raises(ValueError, match=why):
            build("mlp", factors=2).load(state | wrong, "FILE")

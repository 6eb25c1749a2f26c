"""What holds for every model in `configs/model`, by its mere existence."""

from __future__ import annotations

from copy import deepcopy

import torch

from glassrec.data.batch import Batch
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import Layer


def test_one_logit_a_row_and_task(model: Recommender, batch: Batch) -> None:
    assert model(batch).shape == (batch.rows, batch.targets.shape[1])
    assert model(batch).isfinite().all()


def test_rows_do_not_see_each_other(model: Recommender, batch: Batch) -> None:
    single = torch.cat([model(part) for part in batch.chunks(1)])
    torch.testing.assert_close(model(batch), single)
    torch.testing.assert_close(model.predict(batch, chunk=5), model(batch))


def test_the_logit_has_no_door_beside_the_inputs(model: Recommender, batch: Batch) -> None:
    inputs = Inputs(*(part.detach() for part in model.embed(batch)))
    before = model.score(inputs)
    with torch.no_grad():
        model.table.weight.zero_()
    assert torch.equal(model.score(inputs), before)
    assert before.std() > 0


def test_names_of_units_are_unique_and_tell_their_layer(model: Recommender) -> None:
    names = [n for name, layer in model.layers.items() for n in layer.unit_names(name)]
    assert len(set(names)) == len(names) == sum(len(la.units) for la in model.layers.values())


def _with_unit_fixed(model: Recommender, layer: Layer, unit: int, at: float, batch: Batch):
    """The logits of the whole model where one unit is held at a value."""

    def hold(_: object, __: object, emitted: torch.Tensor) -> torch.Tensor:
        emitted = emitted.clone()
        emitted[:, unit] = at
        return emitted

    handle = layer.tap.register_forward_hook(hold)
    try:
        return model(batch)
    finally:
        handle.remove()


def test_a_cut_equals_holding_the_units_at_their_constants(
    model: Recommender, batch: Batch
) -> None:
    model.double()
    batch = batch._replace(dense=batch.dense.double())
    for name, layer in model.layers.items():
        units = len(layer.units)
        constants = torch.zeros(units).double()
        value = 0.7 if layer.foldable(torch.full((units,), 0.7)).all() else 0.0
        constants[1] = value
        small = deepcopy(model)
        kept = torch.tensor([i for i in range(units) if i != 1])
        small.layers[name].keep(kept, constants)
        assert small.layers[name].unit_names(name) == [
            n for i, n in enumerate(layer.unit_names(name)) if i != 1
        ]
        expected = _with_unit_fixed(model, layer, 1, value, batch)
        torch.testing.assert_close(small(batch), expected, rtol=0, atol=1e-9)


def test_a_cut_model_is_smaller_and_keeps_its_mode(model: Recommender) -> None:
    model.train()
    before = model.parameter_count
    for layer in model.layers.values():
        units = len(layer.units)
        layer.keep(torch.arange(units // 2), torch.zeros(units))
    # A model whose units own no weights, such as a plain dot product, only computes less.
    owned = any(p.shape[0] > 1 for la in model.layers.values() for p in la.parameters())
    assert model.parameter_count < before or not owned
    assert all(module.training for module in model.modules())


def test_cut_weights_load_into_a_freshly_built_model(model: Recommender, batch: Batch) -> None:
    whole = deepcopy(model)
    for layer in model.layers.values():
        units = len(layer.units)
        layer.keep(torch.arange(1, units, 2), torch.zeros(units))
    whole.load(model.state_dict(), "here")
    assert torch.equal(whole(batch), model(batch))
    assert [*whole.state_dict()] == [*model.state_dict()]


def test_an_input_that_no_one_reads_does_not_matter(model: Recommender, batch: Batch) -> None:
    read = set(model.schema.field_names)
    ids = batch.ids.clone()
    for column, name in enumerate(("C1", "user", "C2", "C2", "C2", "item")):
        if name not in read:
            ids[:, column] += 1
    assert torch.equal(model(batch._replace(ids=ids)), model(batch))

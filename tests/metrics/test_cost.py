"""What a model costs, counted by hand."""

from __future__ import annotations

import torch

from glassrec.metrics.cost import cost, flops


def test_flops_of_a_dlrm_are_those_of_its_towers_and_of_all_products(build, batch):
    model = build("dlrm", embedding=4, bottom=[8], top=[12, 6])
    vectors = 1 + 4  # the dense one and four fields
    affine = 3 * 8 + 8 * 4 + (4 + 10) * 12 + 12 * 6 + 6 * 2
    assert flops(model, batch) == 2 * (affine + vectors * vectors * 4)


def test_flops_of_the_models_of_ids(build, batch):
    assert flops(build("gmf", factors=8), batch) == 2 * 8 * 2  # the output of two tasks
    mlp = build("mlp", factors=4)
    weights = [m.weight.numel() for m in mlp.modules() if hasattr(m, "parts")]
    assert flops(mlp, batch) == 2 * sum(weights)
    assert flops(build("popularity"), batch) == 0


def test_a_recurrent_layer_works_once_a_step(build, batch):
    model = build("lstm")
    recurrent = [m for m in model.modules() if type(m).__name__ == "LSTMCell"]
    once = sum(m.weight.numel() for m in model.modules() if hasattr(m, "parts"))
    again = sum((batch.history.shape[1] - 1) * cell.gates.weight.numel() for cell in recurrent)
    assert flops(model, batch) == 2 * (once + again)


def test_flops_do_not_depend_on_the_number_of_rows(build, batch):
    model = build("dcn")
    assert flops(model, batch) == flops(model, batch.slice(0, 1)) > 0


def test_bytes_are_those_of_the_tensors_as_saved(build, batch):
    model = build("gmf", factors=8)
    weights = dict(model.state_dict())
    numbers = model.table.weight.numel()
    found = cost(model, weights, batch)
    assert found["parameters"] == numbers + 8 * 2 + 2
    assert found["tower_parameters"] == 8 * 2 + 2
    # Beside the parameters: which units there are, how many were built, the output's one part, and
    # which numbers of both fields are stored; mean and deviation of both tasks.
    assert found["bytes"] == 4 * found["parameters"] + 8 * (8 + 1 + 1) + 2 * 8 + 4 * (2 + 2)
    assert found["bytes"] - found["tower_bytes"] == 4 * numbers
    weights["output.bias"] = weights["output.bias"].double()
    assert cost(model, weights, batch)["bytes"] == found["bytes"] + 4 * 2


def test_a_cut_costs_less(build, batch):
    model = build("dlrm", embedding=4, bottom=[8], top=[12, 6])
    before = cost(model, model.state_dict(), batch)
    layer = model.layers["top.0"]
    layer.keep(torch.arange(5), torch.zeros(12))
    after = cost(model, model.state_dict(), batch)
    assert before["flops"] - after["flops"] == 2 * 7 * (14 + 6)
    assert before["parameters"] - after["parameters"] == 7 * (14 + 6 + 1)
    # A parameter is 4 bytes, and a unit's number 8.
    assert before["bytes"] - after["bytes"] == 7 * (4 * 21 + 8)

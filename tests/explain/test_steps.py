"""Explanations of a history: the attributions of its steps, and the conductance of its units."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from captum.attr import LayerConductance
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.explain import explanation_tables as tables
from glassrec.explain.explainer import Explain
from glassrec.explain.methods.gradients import IntegratedGradients
from glassrec.explain.neurons import Conductance
from glassrec.explain.path import build_baseline
from glassrec.explain.selection import Selection
from glassrec.models.base import Inputs
from glassrec.models.lstm import LSTM

Build = Callable[..., LSTM]
CELLS = pytest.mark.parametrize("cell", ["lstm", "gru"])
STEPS = 5


@pytest.fixture
def rows(batch: Batch) -> Callable[[LSTM], tuple[Inputs, Inputs]]:
    """Rows in float64, and their baseline: the mean embedding with the steps of the row."""

    def embedded(model: LSTM) -> tuple[Inputs, Inputs]:
        inputs = Inputs(*(part.detach().double() for part in model.embed(batch)))
        return inputs, build_baseline(model, "mean", inputs).expand_to(inputs)

    return embedded


def path(inputs: Inputs, base: Inputs) -> list[Inputs]:
    nodes = [step / STEPS for step in range(STEPS + 1)]
    return [
        Inputs(*(b + node * (x - b) for x, b in zip(inputs, base, strict=True))) for node in nodes
    ]


def emitted(model: LSTM, inputs: Inputs, nudge: tuple[int, int, float] | None = None):
    """The emissions (T, B, U) and the first logit (B,), with one unit of one step moved."""
    seen: list[Tensor] = []

    def hook(_: object, __: object, values: Tensor) -> Tensor:
        step = len(seen)
        seen.append(values)
        if nudge is not None and nudge[0] == step:
            values = values.clone()
            values[:, nudge[1]] += nudge[2]
        return values

    handle = model.recurrent.activation_module.register_forward_hook(hook)
    with torch.no_grad():
        logits = model.task_logits(inputs)[:, 0]
    handle.remove()
    return torch.stack(seen), logits


@CELLS
def test_each_emission_has_the_flow_that_finite_differences_find(
    build: Build, rows: Callable[[LSTM], tuple[Inputs, Inputs]], cell: str
) -> None:
    model = build("lstm", cell=cell, hidden=3).double()
    inputs, base = rows(model)
    ours = Conductance(STEPS).values(model, inputs, base)["recurrent"]
    nodes = path(inputs, base)
    values = torch.stack([emitted(model, node)[0] for node in nodes])  # (nodes, T, B, U)
    slopes = torch.empty_like(values)
    eps = 1e-6
    for at, node in enumerate(nodes):
        for step in range(4):
            for unit in range(3):
                up, down = (emitted(model, node, (step, unit, e))[1] for e in (eps, -eps))
                slopes[at, step, :, unit] = (up - down) / (2 * eps)
    expected = ((slopes[1:] + slopes[:-1]) / 2 * values.diff(dim=0)).sum(0)
    assert ours.shape == (4, inputs.rows, 3)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-7)
    assert expected[:-1].abs().max() > 1e-3


@CELLS
@pytest.mark.parametrize("steps", [1, 20])
def test_the_flow_that_leaves_the_layer_is_captums(
    build: Build, rows: Callable[[LSTM], tuple[Inputs, Inputs]], cell: str, steps: int
) -> None:
    model = build("lstm", cell=cell).double()
    inputs, base = rows(model)
    ours = Conductance(steps, "captum").values(model, inputs, base)["recurrent"][-1]
    theirs = LayerConductance(
        lambda fields, history: model.task_logits(inputs_like(inputs, fields, history))[:, 0],
        model.recurrent,
    ).attribute(
        (inputs.fields, inputs.history), (base.fields.contiguous(), base.history), n_steps=steps
    )
    assert torch.equal(ours, theirs)
    assert theirs.abs().sum() > 0


def inputs_like(rows: Inputs, fields: Tensor, history: Tensor) -> Inputs:
    times = len(fields) // rows.rows
    return Inputs(rows.dense.repeat(times, 1), fields, history, rows.steps.repeat(times, 1))


@CELLS
def test_what_leaves_the_layer_adds_up_to_what_the_history_contributes(
    build: Build, rows: Callable[[LSTM], tuple[Inputs, Inputs]], cell: str
) -> None:
    model = build("lstm", cell=cell).double()
    with torch.no_grad():
        for name in model.recurrent.cell.blocks:
            getattr(model.recurrent.cell, name).weight.mul_(2)  # a layer that minds its own past
    inputs, base = rows(model)
    base = base._replace(fields=inputs.fields)  # the history alone moves
    found = Conductance(1000).values(model, inputs, base)
    with torch.no_grad():
        difference = (model.task_logits(inputs) - model.task_logits(base))[:, 0]
    assert difference.abs().max() > 0.1
    torch.testing.assert_close(found["recurrent"][-1].sum(1), difference, rtol=0, atol=5e-3)
    # The sum over steps counts the same flow again at each of them.
    over_steps = found["recurrent"].sum((0, 2))
    assert (over_steps - difference).abs().max() > 0.05


@CELLS
def test_a_unit_that_acts_through_others_alone_is_not_silent(
    build: Build, dataset: Dataset, cell: str
) -> None:
    model = build("lstm", cell=cell, hidden=4)
    with torch.no_grad():
        model.tower.first.affine.weight[:, 2] = 0  # nobody reads unit 2 but the recurrent layer
        for name, blocks in model.recurrent.cell.blocks.items():
            affine = getattr(model.recurrent.cell, name)
            affine.weight.view(blocks, 4, -1)[:, torch.arange(4) != 3, -1] = 0
    model.tower.first.affine.weight.data[:, 3] = 0  # and unit 3 acts on nobody but itself
    scores = tables.neuron_scores(
        Explain(neurons=Conductance(8)).build_explainer(model, dataset, 0)
    )
    of_layer = scores[scores["layer"] == "recurrent"].set_index("unit")
    assert of_layer.loc[2, "mean_abs"] == 0
    assert of_layer.loc[2, "max_abs"] > 0
    assert of_layer.loc[3, "max_abs"] == 0
    assert (of_layer.loc[[0, 1], "mean_abs"] > 0).all()


@CELLS
@pytest.mark.parametrize("features", ["steps", "fields"])
def test_attributions_of_steps_add_up_and_padding_has_none(
    build: Build, dataset: Dataset, cell: str, features: str
) -> None:
    model = build("lstm", cell=cell).double()
    explain = Explain(
        granularity=features, select=Selection("test"), method=IntegratedGradients(400)
    )
    found = explain.build_explainer(model, dataset, seed=0).attributions()
    steps = ("history[-4]", "history[-3]", "history[-2]", "history[-1]")
    assert found.features[-4:] == steps
    assert found.delta.abs().max() < 3e-3  # at the kinks of the ReLU tower
    assert (found.logits - found.baseline_logits).abs().max() > 0.1
    padded = dataset.test.batch.history == 0
    assert padded.any()
    assert not found.values[:, -4:][padded].any()
    assert found.values[:, -4:][~padded].all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@CELLS
def test_a_gpu_explains_steps_as_the_cpu_does(build: Build, dataset: Dataset, cell: str) -> None:
    model = build("lstm", cell=cell).double()
    explain = Explain(granularity="steps", select=Selection("test"))
    here = explain.build_explainer(model, dataset, seed=0).attributions()
    there = explain.build_explainer(model.cuda(), dataset, seed=0).attributions()
    torch.testing.assert_close(there.values, here.values)

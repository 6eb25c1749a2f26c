"""Each neuron method against the class of Captum that computes it a layer at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from captum import attr
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from glassrec.data.batch import Batch
from glassrec.explain import path
from glassrec.explain.conductance import conductance
from glassrec.explain.gates import baseline
from glassrec.explain.neurons import (
    Activation,
    Conductance,
    InternalInfluence,
    LayerIntegratedGradients,
    NeuronMethod,
)
from glassrec.models.base import Inputs, Recommender
from glassrec.models.recurrent import Recurrent

Build = Callable[..., Recommender]
CAPTUMS = {"rtol": 1e-6, "atol": 1e-8}  # its weights are float32, whatever the model is
CONFIGS = Path(__file__).parents[2] / "configs/explain/neurons"
METHODS = [Conductance(6), Activation(), InternalInfluence(6), LayerIntegratedGradients(6)]
EACH_METHOD = pytest.mark.parametrize("method", METHODS, ids=lambda each: type(each).__name__)


@pytest.fixture
def rows(batch: Batch) -> Callable[[Recommender], tuple[Inputs, Inputs]]:
    """Rows in float64, beside the mean embedding."""

    def embedded(model: Recommender) -> tuple[Inputs, Inputs]:
        model.double()
        inputs = Inputs(*(part.detach().double() for part in model.embed(batch)))
        base = baseline(model, "mean", inputs).expand_to(inputs)
        return inputs, Inputs(*(part.contiguous() for part in base))

    return embedded


def score(model: Recommender, task: int = 0) -> Callable[..., Tensor]:
    """The task's logit as Captum calls it."""
    return lambda *parts: model.task_logits(Inputs(*parts))[:, task]


def whole(layer: nn.Module) -> nn.Module:
    """Where Captum hooks a layer: it knows only modules that are called once."""
    return layer if isinstance(layer, Recurrent) else layer.activation_module


def test_activation_is_captums(model: Recommender, rows) -> None:
    inputs, base = rows(model)
    ours = Activation().values(model, inputs, base, 0)
    assert ours.keys() == model.layers.keys()
    for name, layer in model.layers.items():
        theirs = attr.LayerActivation(score(model), whole(layer)).attribute(tuple(inputs))
        assert torch.equal(ours[name][-1], theirs), name
        assert not ours[name].requires_grad


@pytest.mark.parametrize("task", [0, 1])
def test_internal_influence_is_captums(model: Recommender, rows, task: int) -> None:
    inputs, base = rows(model)
    ours = InternalInfluence(9).values(model, inputs, base, task)
    assert ours.keys() == model.layers.keys()
    for name, layer in model.layers.items():
        theirs = attr.InternalInfluence(score(model, task), whole(layer)).attribute(
            tuple(inputs), tuple(base), n_steps=9
        )
        torch.testing.assert_close(ours[name][-1], theirs, **CAPTUMS)
        assert theirs.abs().sum() > 0


@pytest.mark.parametrize("task", [0, 1])
def test_layer_integrated_gradients_are_captums(model: Recommender, rows, task: int) -> None:
    inputs, base = rows(model)
    ours = LayerIntegratedGradients(9).values(model, inputs, base, task)
    assert ours.keys() == model.layers.keys()
    for name, layer in model.layers.items():
        theirs = attr.LayerIntegratedGradients(score(model, task), whole(layer)).attribute(
            tuple(inputs), tuple(base), n_steps=9
        )
        torch.testing.assert_close(ours[name][-1], theirs, **CAPTUMS)
        assert theirs.abs().sum() > 0


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_layer_integrated_gradients_of_a_step_add_up_to_what_it_does(
    build: Build, rows, cell: str
) -> None:
    model = build("lstm", cell=cell)
    inputs, base = rows(model)
    ours = LayerIntegratedGradients(400).values(model, inputs, base, 0)["recurrent"]
    assert ours.shape == (4, inputs.rows, 32)
    tap = model.recurrent.activation_module
    at_baseline = Activation().values(model, base, base, 0)["recurrent"]
    for step in range(4):
        seen = iter(range(4))

        def as_at_baseline(_, __, emitted, step=step, seen=seen) -> Tensor:
            return at_baseline[step] if next(seen) == step else emitted

        with torch.no_grad():
            as_it_is = model.task_logits(inputs)[:, 0]
            handle = tap.register_forward_hook(as_at_baseline)
            replaced = model.task_logits(inputs)[:, 0]
            handle.remove()
        difference = as_it_is - replaced
        assert difference.abs().max() > 1e-3
        missed = (ours[step].sum(1) - difference).abs().mean()
        assert missed < 0.01 * difference.abs().mean()


def test_conductance_is_that_of_the_function(model: Recommender, rows) -> None:
    inputs, base = rows(model)
    for rule in ("trapezoid", "captum"):
        ours = Conductance(5, rule).values(model, inputs, base, 1)
        theirs = conductance(model, inputs, base, steps=5, rule=rule, task=1).emissions
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@EACH_METHOD
def test_values_have_one_entry_an_emission_a_row_and_a_unit(
    method: NeuronMethod, model: Recommender, rows
) -> None:
    inputs, base = rows(model)
    one = Inputs(*(part[:1] for part in baseline(model, "zero", inputs)))
    for beside in (base, one):
        values = method.values(model, inputs, beside, 0)
        for name, layer in model.layers.items():
            calls = 4 if isinstance(layer, Recurrent) else 1
            assert values[name].shape == (calls, inputs.rows, len(layer.units))
            assert not values[name].requires_grad


@EACH_METHOD
def test_rows_do_not_depend_on_those_beside_them(
    method: NeuronMethod, model: Recommender, rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, base = rows(model)
    expected = method.values(model, inputs, base, 0)
    monkeypatch.setattr(path, "IN_CACHE", 30)
    for name, values in method.values(model, inputs, base, 0).items():
        torch.testing.assert_close(values, expected[name], rtol=0, atol=1e-12)


@EACH_METHOD
def test_weights_that_want_no_gradient_change_nothing(
    method: NeuronMethod, build: Build, rows
) -> None:
    model = build("dlrm", bottom=[8], top=[8])
    inputs, base = rows(model)
    expected = method.values(model, inputs, base, 0)
    found = method.values(model.requires_grad_(False), inputs, base, 0)
    assert all(torch.equal(found[name], values) for name, values in expected.items())


def test_each_file_of_the_slot_makes_a_method_with_its_defaults() -> None:
    made = {file.stem: instantiate(OmegaConf.load(file)) for file in CONFIGS.glob("*.yaml")}
    assert made == {
        "conductance": Conductance(),
        "activation": Activation(),
        "internal_influence": InternalInfluence(),
        "layer_integrated_gradients": LayerIntegratedGradients(),
    }
    assert [made[name].evaluations for name in sorted(made)] == [1, 33, 32, 32]
    assert len({method.name for method in made.values()}) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@EACH_METHOD
def test_a_gpu_finds_what_the_cpu_finds(method: NeuronMethod, model: Recommender, rows) -> None:
    inputs, base = rows(model)
    here = method.values(model, inputs, base, 0)
    there = method.values(
        model.cuda(), *(Inputs(*(part.cuda() for part in each)) for each in (inputs, base)), 0
    )
    for name, values in here.items():
        assert there[name].is_cuda
        torch.testing.assert_close(there[name].cpu(), values)

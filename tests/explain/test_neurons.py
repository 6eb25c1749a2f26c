"""What holds for each neuron method, and layer integrated gradients of single time steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.explain import path
from glassrec.explain.captum_methods import CaptumNeurons
from glassrec.explain.neurons import (
    Conductance,
    NeuronMethod,
)
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender
from glassrec.models.lstm import Recurrent

Build = Callable[..., Recommender]
CONFIGS = Path(__file__).parents[2] / "configs/explain/neurons"


def by_captum(name: str, **kwargs: int) -> CaptumNeurons:
    return CaptumNeurons(name, kwargs)


METHODS = [
    Conductance(6), by_captum("LayerActivation"), by_captum("InternalInfluence", n_steps=6),
    by_captum("LayerIntegratedGradients", n_steps=6),
]  # fmt: skip
EACH_METHOD = pytest.mark.parametrize("method", METHODS, ids=lambda each: each.name)


@pytest.fixture
def rows(batch: Batch) -> Callable[[Recommender], tuple[Inputs, Inputs]]:
    """Rows in float64, beside the mean embedding."""

    def embedded(model: Recommender) -> tuple[Inputs, Inputs]:
        model.double()
        inputs = Inputs(*(part.detach().double() for part in model.embed(batch)))
        base = build_baseline(model, "mean", inputs).expand_to(inputs)
        return inputs, Inputs(*(part.contiguous() for part in base))

    return embedded


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_layer_integrated_gradients_of_a_step_add_up_to_what_it_does(
    build: Build, rows, cell: str
) -> None:
    model = build("lstm", cell=cell)
    inputs, base = rows(model)
    ours = by_captum("LayerIntegratedGradients", n_steps=400).values(model, inputs, base, 0)[
        "recurrent"
    ]
    assert ours.shape == (4, inputs.rows, 32)
    tap = model.recurrent.activation_module
    at_baseline = by_captum("LayerActivation").values(model, base, base, 0)["recurrent"]
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


@EACH_METHOD
def test_values_have_one_entry_an_emission_a_row_and_a_unit(
    method: NeuronMethod, model: Recommender, rows
) -> None:
    inputs, base = rows(model)
    one = Inputs(*(part[:1] for part in build_baseline(model, "zero", inputs)))
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
    monkeypatch.setattr(path, "CPU_CHUNK_ROWS", 30)
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
    made = {
        file.stem: instantiate(OmegaConf.load(file))
        for file in CONFIGS.glob("*.yaml")
        if file.stem != "captum"
    }
    assert made == {
        "conductance": Conductance(),
        "activation": by_captum("LayerActivation"),
        "internal_influence": by_captum("InternalInfluence", n_steps=32),
        "layer_integrated_gradients": by_captum("LayerIntegratedGradients", n_steps=32),
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

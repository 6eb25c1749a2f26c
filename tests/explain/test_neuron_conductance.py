"""What the inputs contribute through one neuron, against Captum and against the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from captum import attr
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.explain.captum_methods import CaptumMethod
from glassrec.explain.features import build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.neurons import Conductance
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender
from glassrec.models.lstm import Recurrent

Build = Callable[..., Recommender]
CAPTUMS = {"rtol": 1e-6, "atol": 1e-8}  # its weights are float32, whatever the model is
Make = Callable[..., MaskedModel]


def NeuronConductance(neuron: str, steps: int = 32) -> CaptumMethod:  # noqa: N802
    kwargs = {"n_steps": steps, "method": "gausslegendre"}
    return CaptumMethod("NeuronConductance", kwargs, neuron=neuron)


def conductance(model: Recommender, inputs: Inputs, base: Inputs, steps: int) -> dict[str, Tensor]:
    return {n: values[-1] for n, values in Conductance(steps).values(model, inputs, base).items()}


CONFIG = Path(__file__).parents[2] / "configs/explain/method/neuron_conductance.yaml"


@pytest.fixture
def view(batch: Batch) -> Make:
    """Rows in float64 beside the mean embedding."""

    def make(model: Recommender, features: str = "fields", **settings: int) -> MaskedModel:
        inputs = Inputs(*(part.detach().double() for part in model.double().embed(batch)))
        base = build_baseline(model, "mean", inputs).expand_to(inputs)
        mask = build_feature_mask(model.schema, model.width, features, model.device)
        return MaskedModel(model, mask, inputs, base, **settings)

    return make


def middle(model: Recommender) -> list[tuple[str, int, str]]:
    """A unit of each layer that something flows through: layer, place and name."""
    return [
        (name, place, layer.neuron_names(name)[place])
        for name, layer in model.layers.items()
        for place in (0, len(layer.units) // 2)
    ]


@pytest.mark.parametrize("task", [0, 1])
def test_it_is_captums(model: Recommender, view: Make, task: int) -> None:
    if not model.layers:
        pytest.skip("no neurons")
    rows = view(model, task=task)
    parts = (rows.inputs, rows.baseline)
    inputs, base = (tuple(part.contiguous() for part in each) for each in parts)
    reads = [bool(part.numel()) for part in inputs[:3]]
    read = [at for at in range(3) if reads[at]]

    def forward(*varied: Tensor) -> Tensor:
        times = len(varied[0]) // rows.rows
        full = [part.repeat(times, *[1] * (part.ndim - 1)) for part in inputs]
        for at, part in zip(read, varied, strict=True):
            full[at] = part
        # Captum refuses a neuron that does not read all that varies; so each reads nothing of it.
        nothing = 0 * sum(part.sum() for part in varied)
        hook = hooked.register_forward_hook(lambda _, __, out: out + nothing, prepend=True)
        logits = model.task_logits(Inputs(*full))[:, task]
        hook.remove()
        return logits

    size = 0.0
    for layer, unit, name in middle(model):
        module = model.layers[layer]
        hooked = module if isinstance(module, Recurrent) else module.activation_module
        theirs = attr.NeuronConductance(forward, hooked).attribute(
            tuple(inputs[at] for at in read), unit, tuple(base[at] for at in read),
            n_steps=7, method="gausslegendre",
        )  # fmt: skip
        expected = torch.cat([part if part.ndim == 2 else part.sum(2) for part in theirs], 1)
        ours = NeuronConductance(name, 7).attribute(rows, 0)
        torch.testing.assert_close(ours, expected, **CAPTUMS)
        size += expected.abs().sum().item()
    assert size > 0


@pytest.mark.parametrize("features", ["fields", "dimensions", "dense"])
def test_the_parts_add_up_to_what_flows_through_the_neuron(
    build: Build, view: Make, features: str
) -> None:
    model = build("dlrm", bottom=[8], top=[8])
    rows = view(model, features)
    flows = conductance(model, rows.inputs, rows.masked_out, steps=2000)
    for layer, unit, name in middle(model):
        parts = NeuronConductance(name, 300).attribute(rows, 0)
        assert parts.shape == (rows.rows, rows.size)
        total = flows[layer][:, unit]
        missed = (parts.sum(1) - total).abs().mean()
        assert missed <= 0.02 * total.abs().mean() + 1e-12, name


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_recurrent_neuron_is_explained_by_steps_and_padding_has_no_part(
    build: Build, view: Make, cell: str
) -> None:
    model = build("lstm", cell=cell, hidden=3)
    rows = view(model, "steps")
    parts = NeuronConductance("recurrent[1]", 300).attribute(rows, 0)
    flow = conductance(model, rows.inputs, rows.masked_out, steps=2000)["recurrent"][:, 1]
    assert flow.abs().max() > 1e-3
    torch.testing.assert_close(parts.sum(1), flow, rtol=0.02, atol=1e-3)
    padded = rows.inputs.steps == 0
    assert padded.any()
    assert not parts[padded].any()
    assert parts[~padded].any()


def test_a_chunk_changes_nothing(build: Build, view: Make) -> None:
    model = build("dlrm", bottom=[8], top=[8])
    method = NeuronConductance("top.0[3]", 10)
    expected = method.attribute(view(model), 0)
    for chunk in (1, 50):
        found = method.attribute(view(model, chunk=chunk), 0)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_neuron_that_does_not_exist_is_refused_with_what_exists(build: Build, view: Make) -> None:
    model = build("dlrm", bottom=[8], top=[9])
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    with pytest.raises(ValueError, match="no neuron") as error:
        NeuronConductance("topp.0[3]").check(model, mask, 1)
    assert "did you mean 'top.0[3]'?" in str(error.value)
    for layer in ("bottom.0 (8)", "bottom.1 (16)", "interaction (26)", "top.0 (9)"):
        assert layer in str(error.value)
    with pytest.raises(ValueError, match=r"did you mean 'C1×user'"):
        NeuronConductance("C1xuser").check(model, mask, 1)
    with pytest.raises(ValueError, match=r"top.0\[9\]"):
        NeuronConductance("top.0[9]").attribute(view(model), 0)
    for known in ("bottom.0[7]", "dense[3]", "C1×user", "top.0[8]"):
        NeuronConductance(known).check(model, mask, 1)


def test_a_model_without_neurons_says_so(build: Build) -> None:
    model = build("popularity")
    assert not model.layers
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    with pytest.raises(ValueError, match="none"):
        NeuronConductance("top.0[1]").check(model, mask, 1)


def test_neurons_of_a_pruned_layer_keep_their_names(build: Build, view: Make) -> None:
    model = build("dlrm", bottom=[8], top=[8])
    rows = view(model)
    layer = model.layers["top.0"]
    expected = NeuronConductance("top.0[5]", 10).attribute(rows, 0)
    layer.keep(torch.tensor([2, 5, 7]), torch.zeros(8).double())
    found = NeuronConductance("top.0[5]", 10).attribute(rows, 0)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match=r"no neuron 'top.0\[3\]'"):
        NeuronConductance("top.0[3]", 10).attribute(rows, 0)


def test_its_file_asks_for_a_neuron() -> None:
    config = OmegaConf.load(CONFIG)
    assert OmegaConf.is_missing(config, "neuron")
    config.neuron = "top.0[17]"
    made = instantiate(config)
    assert made == NeuronConductance("top.0[17]")
    assert made.evaluations(5) == 32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_what_the_cpu_finds(build: Build, view: Make) -> None:
    model = build("dlrm", bottom=[8], top=[8])
    rows = view(model)
    method = NeuronConductance("dense[3]", 10)
    here = method.attribute(rows, 0)
    mask = build_feature_mask(model.schema, model.width, "fields", torch.device("cuda"))
    there = MaskedModel(
        model.cuda(), mask, *(Inputs(*(part.cuda() for part in each)) for each in
        (rows.inputs, rows.baseline)),
    )  # fmt: skip
    torch.testing.assert_close(method.attribute(there, 0).cpu(), here)

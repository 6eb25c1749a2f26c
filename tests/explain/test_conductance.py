"""Conductance and integrated gradients against Captum and against closed forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from captum.attr import IntegratedGradients, LayerConductance

from glassrec.data.batch import Batch
from glassrec.explain import path
from glassrec.explain.features import build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import gradients
from glassrec.explain.neurons import Conductance
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers.attention import Stepwise
from glassrec.models.ncf import GMF


def conductance(model, inputs, base, *, steps, rule="trapezoid", task=0, modules=None):
    return Conductance(steps, rule).values(model, inputs, base, task, modules)


@pytest.fixture
def row(model: Recommender, batch: Batch) -> tuple[Inputs, Inputs]:
    """The model's inputs for some rows, and a baseline row."""
    inputs = Inputs(*(part.detach() for part in model.embed(batch)))
    return inputs, build_baseline(model, "mean", inputs)


@pytest.mark.parametrize("steps", [1, 10, 50])
def test_captum_mode_equals_captum_bit_for_bit(
    model: Recommender, row: tuple[Inputs, Inputs], steps: int
) -> None:
    inputs, base = row
    spread = Inputs(*(part.contiguous() for part in base.expand_to(inputs)))
    ours = conductance(model, inputs, base, steps=steps, rule="captum")
    assert ours.keys() == model.layers.keys()
    for name, layer in model.layers.items():
        stepwise = isinstance(layer, Stepwise)  # its activations (B, T, U) are those of all steps
        module = layer if stepwise else layer.activation_module
        theirs = LayerConductance(_read_by(model), module).attribute(
            _read(model, inputs), _read(model, spread), n_steps=steps,
            additional_forward_args=_unread(model, inputs),
        )  # fmt: skip
        if stepwise:
            torch.testing.assert_close(ours[name][-1], theirs.sum(1))
        else:
            assert torch.equal(ours[name][-1], theirs), name
        assert theirs.abs().sum() > 0


def _order(model: Recommender) -> tuple[list[int], list[int]]:
    """Which parts of the inputs the model reads, and which not.

    Captum needs a gradient of everything that it varies.
    """
    schema = model.schema
    reads = [bool(schema.dense), bool(schema.fields), schema.history_length > 0, False]
    return [at for at in range(4) if reads[at]], [at for at in range(4) if not reads[at]]


def _read(model: Recommender, inputs: Inputs) -> tuple[torch.Tensor, ...]:
    return tuple(inputs[at] for at in _order(model)[0])


def _unread(model: Recommender, inputs: Inputs) -> tuple[torch.Tensor, ...]:
    return tuple(inputs[at] for at in _order(model)[1])


def _read_by(model: Recommender) -> Callable[..., torch.Tensor]:
    """The first logit, of the parts that are read and then the others."""
    read, unread = _order(model)

    def forward(*parts: torch.Tensor) -> torch.Tensor:
        ordered = sorted(zip([*read, *unread], parts, strict=True), key=lambda pair: pair[0])
        return model.task_logits(Inputs(*(part for _, part in ordered)))[:, 0]

    return forward


def test_integrated_gradients_over_gates_equal_captums_over_embeddings(
    model: Recommender, row: tuple[Inputs, Inputs]
) -> None:
    model.double()
    inputs, base = (Inputs(*(part.double() for part in x)) for x in row)
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    spread = base.expand_to(inputs)
    view = MaskedModel(model, mask, inputs, spread)
    ours = gradients.IntegratedGradients(20).attribute(view, 0)
    delta = ours.sum(1) - view.difference
    theirs, their_delta = IntegratedGradients(_read_by(model)).attribute(
        _read(model, inputs), _read(model, spread), n_steps=20, return_convergence_delta=True,
        additional_forward_args=_unread(model, inputs),
    )  # fmt: skip
    expected = torch.cat([part if part.ndim == 2 else part.sum(2) for part in theirs], 1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(delta, their_delta, rtol=0, atol=1e-6)


def test_parts_add_up_to_the_logit_difference(
    model: Recommender, row: tuple[Inputs, Inputs]
) -> None:
    inputs, base = (_double(x) for x in row)
    mask = build_feature_mask(model.schema, model.width, "fields", model.device)
    view = MaskedModel(model.double(), mask, inputs, base.expand_to(inputs))
    parts = gradients.IntegratedGradients(200).attribute(view, 0)
    with torch.no_grad():
        difference = model.task_logits(inputs) - model.task_logits(base.expand_to(inputs))
    missed = (parts.sum(1) - difference[:, 0]).abs().mean()
    assert missed < 0.01 * difference[:, 0].abs().mean()


def _double(inputs: Inputs) -> Inputs:
    return Inputs(*(part.double() for part in inputs))


def test_the_last_layers_add_up_as_they_are_a_cut(
    build: Callable[..., Recommender], batch: Batch
) -> None:
    for name, cut in {
        "gmf": ["product"], "mlp": ["tower.2"], "neumf": ["product", "tower.2"], "dlrm": ["top.1"],
    }.items():  # fmt: skip
        model = build(name).double()
        inputs = _double(Inputs(*(part.detach() for part in model.embed(batch))))
        base = build_baseline(model, "zero", inputs)
        found = conductance(model, inputs, base, steps=10)
        with torch.no_grad():
            difference = (model.task_logits(inputs) - model.task_logits(base))[:, 0]
        # The logit is linear in these layers, so each step is exact, however few there are.
        total = torch.stack([found[layer][-1].sum(1) for layer in cut]).sum(0)
        torch.testing.assert_close(total, difference, rtol=0, atol=1e-9)


def test_gmf_has_a_closed_form(build: Callable[..., GMF], batch: Batch) -> None:
    model = build("gmf").double()
    inputs = _double(Inputs(*(part.detach() for part in model.embed(batch))))
    found = conductance(model, inputs, build_baseline(model, "zero", inputs), steps=3)
    p, q = inputs.fields.unbind(1)
    expected = model.output.weight[0] * p * q
    torch.testing.assert_close(found["product"][-1], expected.detach())


def test_any_module_can_be_asked_for(build: Callable[..., Recommender], batch: Batch) -> None:
    model = build("dlrm").double()
    inputs = _double(Inputs(*(part.detach() for part in model.embed(batch))))
    base = build_baseline(model, "mean", inputs)
    modules = {"before": model.top[0].affine, "after": model.top[0]}
    found = conductance(model, inputs, base, steps=300, modules=modules)
    theirs = conductance(model, inputs, base, steps=300)["top.0"]
    assert torch.equal(found["after"], theirs)
    # A cut on either side of the ReLU.
    torch.testing.assert_close(found["before"], theirs, rtol=0, atol=0.01)
    assert not torch.equal(found["before"], theirs)


def test_rows_that_pass_in_portions_have_the_same_values(
    model: Recommender, row: tuple[Inputs, Inputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, base = (_double(x) for x in row)
    whole = conductance(model.double(), inputs, base, steps=7)
    monkeypatch.setattr(path, "CPU_CHUNK_ROWS", 40)  # 5 rows at a time
    apart = conductance(model, inputs, base, steps=7)
    for name, values in whole.items():
        torch.testing.assert_close(apart[name], values, rtol=0, atol=1e-12)


def test_the_trapezoid_halves_the_error(build: Callable[..., Recommender], batch: Batch) -> None:
    model = build("dlrm").double()
    inputs = _double(Inputs(*(part.detach() for part in model.embed(batch))))
    base = build_baseline(model, "mean", inputs)
    exact = conductance(model, inputs, base, steps=1500)["interaction"]

    def error(rule: str) -> float:
        found = conductance(model, inputs, base, steps=20, rule=rule)["interaction"]
        return (found - exact).abs().mean().item()

    assert error("trapezoid") < 0.7 * error("captum")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_the_cpu_gives(model: Recommender, row: tuple[Inputs, Inputs]) -> None:
    here = conductance(model.double(), *(_double(x) for x in row), steps=10)
    model.cuda()
    there = conductance(
        model, *(Inputs(*(part.double().cuda() for part in x)) for x in row), steps=10
    )
    for name, values in there.items():
        assert values.is_cuda
        torch.testing.assert_close(values.cpu(), here[name])

"""Methods of Captum by name: its own numbers on each model, and checks up front."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum import attr
from torch import Tensor, nn

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.explain.captum_classes import captum_classes
from glassrec.explain.captum_methods import CaptumMethod, CaptumNeurons
from glassrec.explain.features import Granularity, build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods.deeplift import DeepLift
from glassrec.explain.path import build_baseline
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers.attention import Stepwise
from glassrec.models.lstm import Recurrent
from glassrec.models.sasrec import SASRec

Build = Callable[..., Recommender]


def masked(
    model: Recommender, batch: Batch, granularity: Granularity = "fields", task: int = 1
) -> MaskedModel:
    """Rows in float64, with the mean embedding as their baseline."""
    inputs = Inputs(*(part.detach().double() for part in model.double().embed(batch)))
    base = build_baseline(model, "mean", inputs).expand_to(inputs)
    mask = build_feature_mask(model.schema, model.width, granularity, model.device)
    return MaskedModel(model, mask, inputs, Inputs(*(part.contiguous() for part in base)), task)


class Direct(nn.Module):
    """The logit of the looked-up vectors, as a user of Captum would write it."""

    def __init__(self, view: MaskedModel) -> None:
        super().__init__()
        self.model, self.task, self.steps = view.model, view.task, view.inputs.steps
        # Captum needs a gradient of everything that it varies.
        self.read = [name for name in Inputs._fields[:3] if getattr(view.inputs, name).numel()]
        self.rest = view.inputs

    def forward(self, *parts: Tensor) -> Tensor:
        times = len(parts[0]) // len(self.steps)
        every = {k: v.repeat(times, *[1] * (v.ndim - 1)) for k, v in self.rest._asdict().items()}
        inputs = Inputs(**every | dict(zip(self.read, parts, strict=True)))
        return self.model.target_scale(self.model.score(inputs))[:, self.task]

    def of(self, inputs: Inputs) -> tuple[Tensor, ...]:
        return tuple(getattr(inputs, name).clone().requires_grad_() for name in self.read)


def summed(parts: tuple[Tensor, ...]) -> Tensor:
    """(B, P): over each dense column, field and step."""
    return torch.cat([part if part.ndim == 2 else part.sum(2) for part in parts], 1)


INPUT_METHODS = [
    ("Saliency", {}), ("InputXGradient", {}), ("IntegratedGradients", {"n_steps": 20}),
    ("DeepLift", {}), ("FeatureAblation", {}), ("GuidedBackprop", {}), ("ShapleyValueSampling", {}),
    ("KernelShap", {"n_samples": 40}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs"), INPUT_METHODS, ids=[name for name, _ in INPUT_METHODS])
def test_input_methods_give_captums_own_numbers(
    model: Recommender, batch: Batch, name: str, kwargs: dict[str, Any]
) -> None:
    view = masked(model, batch.slice(0, 4))
    method, direct = CaptumMethod(name, kwargs), Direct(view)
    inputs, bases = direct.of(view.inputs), direct.of(view.baseline)
    given: dict[str, Any] = kwargs | (
        {"baselines": bases} if method.captum.takes("baselines") else {}
    )
    masks = method.captum.takes("feature_mask")
    if masks:  # one feature for each column, field and step
        start, given["feature_mask"] = 0, ()
        for part in inputs:
            ids = torch.arange(start, start + part.shape[1])
            start += len(ids)
            shape = part[:1].shape
            ids = ids.view(1, -1, *[1] * (part.ndim - 2)).expand(shape).contiguous()
            given["feature_mask"] = (*given["feature_mask"], ids)
    # The draws of KernelSHAP would follow each other from row to row; here each row has its own.
    parts = [*view.split(1)] if name == "KernelShap" else [view]
    found = [_by_captum(name, part, given, 3 + row) for row, part in enumerate(parts)]
    if any(part is None for part in found):
        with pytest.raises(ValueError, match=f"attr.{name} cannot explain"):
            method.attribute(view, 3)
        return
    expected = torch.cat([part for part in found if part is not None])
    torch.testing.assert_close(method.attribute(view, 3), expected, rtol=1e-6, atol=1e-6)
    # Behind a layer normalisation the gradients of a vector's numbers add up to 0.
    assert expected.abs().max() > 1e-3 or (type(model), name) == (SASRec, "GuidedBackprop")


def _by_captum(name: str, view: MaskedModel, given: dict[str, Any], seed: int) -> Tensor | None:
    direct = Direct(view)
    inputs = direct.of(view.inputs)
    given = given | ({"baselines": direct.of(view.baseline)} if "baselines" in given else {})
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = getattr(attr, name)(direct).attribute(inputs, **given)
    except (RuntimeError, AssertionError, ValueError):
        return None
    if "feature_mask" in given:  # the same value at each number of a feature
        found = tuple(part if part.ndim == 2 else part.mean(2) for part in found)
    return summed(found).detach().double()


LAYER_METHODS = [
    ("LayerConductance", {"n_steps": 9}), ("LayerActivation", {}),
    ("LayerIntegratedGradients", {"n_steps": 9}), ("InternalInfluence", {"n_steps": 9}),
    ("LayerGradientXActivation", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs"), LAYER_METHODS, ids=[name for name, _ in LAYER_METHODS])
def test_layer_methods_give_captums_own_numbers(
    model: Recommender, batch: Batch, name: str, kwargs: dict[str, Any]
) -> None:
    view = masked(model, batch)
    direct, method = Direct(view), CaptumNeurons(name, kwargs)
    ours = method.values(model, view.inputs, view.baseline, view.task)
    assert ours.keys() == model.layers.keys()
    inputs, bases = direct.of(view.inputs), direct.of(view.baseline)
    for key, layer in model.layers.items():
        # Captum sees the last call alone of a module that is called once a step.
        if isinstance(layer, Stepwise) and name == "LayerIntegratedGradients":
            continue  # Captum moves all steps at once, and we one at a time
        stepwise = isinstance(layer, Recurrent | Stepwise)
        module = layer if stepwise else layer.activation_module
        given = kwargs | ({"baselines": bases} if "n_steps" in kwargs else {})
        theirs = getattr(attr, name)(direct, module).attribute(inputs, **given).detach()
        theirs = theirs.sum(1) if isinstance(layer, Stepwise) else theirs  # all steps at once
        torch.testing.assert_close(ours[key][-1], theirs, rtol=1e-6, atol=1e-6)
        assert theirs.abs().sum() > 0
        assert not ours[key].requires_grad


@pytest.mark.parametrize("granularity", ["dense", "dimensions", "steps"])
@pytest.mark.parametrize("view", ["mask", "inputs"])
def test_features_in_no_mask_stay_as_they_are(
    build: Build, batch: Batch, granularity: Granularity, view: str
) -> None:
    rows = masked(build("lstm" if granularity == "steps" else "dlrm"), batch, granularity)
    for name in ("IntegratedGradients", "FeatureAblation"):
        kwargs = {"n_steps": 64} if name == "IntegratedGradients" else {}
        found = CaptumMethod(name, kwargs, view=view).attribute(rows, 0)
        assert found.shape == (rows.rows, rows.size)
        other = "inputs" if view == "mask" else "mask"
        again = CaptumMethod(name, kwargs, view=other).attribute(rows, 0)
        torch.testing.assert_close(found, again, rtol=0, atol=1e-6)


def test_each_input_method_of_captum_runs_or_says_why_not(build: Build, batch: Batch) -> None:
    rows, refused = masked(build("mlp"), batch.slice(0, 3)), {}
    for name in captum_classes("input"):
        try:
            CaptumMethod(name).check(rows.model, rows.feature_mask, 2)
            found = CaptumMethod(name).attribute(rows, 0)
            assert found.shape == (3, rows.size)
            assert found.isfinite().all()
        except ValueError as error:
            refused[name] = str(error)
    assert len(captum_classes("input")) >= 14
    assert set(refused) <= {"LRP"}, refused


def test_each_layer_method_of_captum_runs_or_says_why_not(build: Build, batch: Batch) -> None:
    rows, refused = masked(build("mlp"), batch.slice(0, 3)), {}
    for name in captum_classes("layer"):
        try:
            found = CaptumNeurons(name).values(rows.model, rows.inputs, rows.baseline, 0)
            assert all(values.isfinite().all() for values in found.values())
        except ValueError as error:
            refused[name] = str(error)
    assert len(captum_classes("layer")) >= 12
    assert set(refused) <= {"LayerGradCam", "LayerLRP"}, refused


def test_input_x_gradient_by_mask_is_the_gradient_times_the_difference(
    build: Build, batch: Batch
) -> None:
    rows = masked(build("dcn"), batch)
    inputs = Inputs(*(part.clone().requires_grad_() for part in rows.inputs))
    rows.model.task_logits(inputs)[:, rows.task].sum().backward()
    changes = zip(inputs, rows.inputs, rows.baseline, strict=True)
    parts = [x.grad * (at - b) if x.grad is not None else x * 0 for x, at, b in changes]
    expected = summed(tuple(parts[:2])).detach()
    found = CaptumMethod("InputXGradient", view="mask").attribute(rows, 0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CaptumMethod("InputXGradent"), ["explain.method.name", "'InputXGradient'"]),
        (lambda: CaptumMethod(), ["explain.method.name", "Saliency"]),
        (lambda: CaptumNeurons("LayerConductanc"), ["explain.neurons.name", "'LayerConductance'"]),
        (lambda: CaptumMethod("Saliency", {"ab": 1}), ["explain.method.kwargs.ab", "'abs'"]),
        (
            lambda: CaptumMethod("IntegratedGradients", {"n_steps": "many"}),
            ["explain.method.kwargs.n_steps", "'many'", "integer"],
        ),
        (lambda: CaptumMethod("Saliency", {"inputs": 1}), ["explain.method.kwargs.inputs"]),
        (lambda: CaptumMethod("NeuronGradient"), ["explain.method.neuron", "NeuronGradient"]),
        (lambda: CaptumMethod("Saliency", neuron="top.0[1]"), ["explain.method.neuron"]),
    ],
)
def test_wrong_names_and_arguments_are_refused_when_built(
    make: Callable[[], object], words: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"captum|neuron|n_steps") as error:
        make()
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("kwargs", [{"n_steps": 0}, {"method": "simpson"}])
def test_values_that_captum_refuses_are_found_by_the_check(
    build: Build, batch: Batch, kwargs: dict[str, Any]
) -> None:
    rows = masked(build("gmf"), batch)
    with pytest.raises(ValueError, match=r"captum\.attr\.IntegratedGradients cannot explain GMF"):
        CaptumMethod("IntegratedGradients", kwargs).check(rows.model, rows.feature_mask, 1)


def test_memory_is_bounded_by_what_captum_passes_at_once() -> None:
    assert CaptumMethod("IntegratedGradients").evaluations(7) == 50
    assert CaptumMethod("IntegratedGradients", {"n_steps": 8}).evaluations(7) == 8
    assert CaptumMethod("GradientShap", {"n_samples": 6}).evaluations(7) == 6
    assert CaptumMethod("ShapleyValueSampling", {"perturbations_per_eval": 5}).evaluations(7) == 5
    assert CaptumMethod("KernelShap").evaluations(7) == CaptumMethod("Saliency").evaluations(7) == 1
    assert CaptumNeurons("LayerConductance", {"n_steps": 12}).evaluations == 12


def _error(rows: MaskedModel) -> float:
    """The completeness error of DeepLIFT, as a share of the mean difference."""
    delta = CaptumMethod("DeepLift").attribute(rows, 0).double().sum(1) - rows.difference
    return (delta.abs().mean() / rows.difference.abs().mean()).item()


@pytest.mark.parametrize("name", ["gmf", "neumf", "dlrm"])
def test_products_have_no_rule_in_captums_deeplift(build: Build, batch: Batch, name: str) -> None:
    assert _error(masked(build(name), batch, task=0)) > 0.5


@pytest.mark.parametrize("name", ["mlp", "dnn", "two_tower"])
def test_without_products_captums_deeplift_agrees_with_ours(
    build: Build, batch: Batch, name: str
) -> None:
    rows = masked(build(name), batch)
    theirs = CaptumMethod("DeepLift").attribute(rows, 0)
    torch.testing.assert_close(theirs, DeepLift().attribute(rows, 0), rtol=0, atol=1e-5)
    assert _error(rows) < 1e-5


@pytest.mark.parametrize("name", ["DeepLift", "GuidedBackprop", "KernelShap"])
def test_the_model_stays_as_it_is_and_nothing_is_said(
    model: Recommender, batch: Batch, name: str
) -> None:
    def state() -> list[object]:
        modules = [(set(vars(module)), module.training) for module in model.modules()]
        return [modules, {name: p.requires_grad for name, p in model.named_parameters()}]

    before, random = state(), torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            CaptumMethod(name).attribute(masked(model, batch.slice(0, 3)), 0)
        except ValueError:  # KernelSHAP of one feature
            assert len(model.schema.fields) == 1
    assert state() == before
    assert torch.equal(torch.get_rng_state(), random)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


class Twice(Recommender):
    """A model that calls one ReLU for two layers."""

    def __init__(self, data: Schema) -> None:
        super().__init__(data, data.select(fields=["item"]), 4)
        self.input = nn.Linear(4, 2)
        self.relu = nn.ReLU()

    def score(self, inputs: Inputs) -> Tensor:
        return self.relu(self.input(self.relu(inputs.fields[:, 0])))


def test_a_module_that_is_called_twice_is_refused(schema: Schema, batch: Batch) -> None:
    rows = masked(Twice(schema).eval(), batch)
    with pytest.raises(ValueError, match=r"cannot explain Twice: .*explain/method=deeplift"):
        CaptumMethod("DeepLift").attribute(rows, 0)
    assert "input" not in vars(rows.model.relu)
    assert DeepLift().attribute(rows, 0).abs().sum() > 0

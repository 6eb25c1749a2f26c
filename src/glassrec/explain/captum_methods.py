"""Any method of Captum by its name: of inputs, of single neurons, and of whole layers.

Captum gets the masked view: a module whose input is the mask (B, P), with ones for the rows and
zeros for their baselines. So a method with a baseline works on features, and its attributions are
Captum's own for the model's inputs, summed over each feature. A method without a baseline
(Saliency, InputXGradient, GuidedBackprop ...) gets the input values (B, L) themselves.

Captum is imported when a method of it is built: that takes a second.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_type_hints

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from glassrec.explain.baselines import zero_row
from glassrec.explain.masking import FeatureMask, MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.neurons import NeuronMethod
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import activations
from glassrec.spelling import did_you_mean, one_of

Family = Literal["input", "neuron", "layer"]

COMPLETE = {"DeepLift", "DeepLiftShap", "IntegratedGradients", "KernelShap", "ShapleyValues",
            "ShapleyValueSampling"}  # fmt: skip
"""Methods whose attributions should add up to the logit's difference."""

SAMPLED = {"FeaturePermutation", "GradientShap", "KernelShap", "Lime", "NeuronGradientShap",
           "ShapleyValueSampling"}  # fmt: skip
"""Methods with random draws."""

ROW_BY_ROW = {"GradientShap", "KernelShap", "Lime", "NeuronGradientShap"}
"""Methods whose draws would depend on the other rows of a batch."""

PAIRED = {"DeepLiftShap": "DeepLift", "LayerDeepLiftShap": "LayerDeepLift",
          "NeuronDeepLiftShap": "NeuronDeepLift"}  # fmt: skip
"""Means over all baselines, by the method for one: each row has its own baselines here, over which
the explainer averages."""

_GIVEN = {
    "self", "forward_func", "model", "layer", "inputs", "baselines", "target", "feature_mask",
    "additional_forward_args", "neuron_selector", "layer_baselines", "layer_mask", "device_ids",
    "return_convergence_delta", "return_input_shape", "show_progress", "kwargs",
}  # fmt: skip
"""Arguments that are not the user's."""


@dataclass(frozen=True)
class CaptumMethod(Method):
    """An input method of `captum.attr`, or a `Neuron*` one for the effect through one neuron.

    Args:
        name: of the class, such as `Saliency`.
        kwargs: arguments of its constructor and of `attribute`, such as `n_steps`.
        view: `mask`, in which features are the inputs, or `inputs`, the values themselves; None is
            mask for methods with a baseline. InputXGradient with mask is the gradient times the
            difference from the baseline.
        neuron: for `Neuron*`, its name in the table of neurons: `top.0[17]`, or `C3×C14`. Of a
            recurrent neuron the last activation is explained, the one that leaves the layer.
    """

    name: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    view: Literal["mask", "inputs"] | None = None
    neuron: str | None = None
    complete: bool = field(init=False, default=False)
    sampled: bool = field(init=False, default=False)
    averaged: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        family: Family = "neuron" if self.name.startswith("Neuron") else "input"
        found = _Captum(family, "explain.method", self.name, self.kwargs)
        if (self.neuron is None) != (family == "input"):
            raise ValueError(
                f"explain.method.neuron: {self.name} "
                + ("explains inputs, and no neuron" if self.neuron else "needs one: top.0[17]")
            )
        traits = {
            "complete": self.name in COMPLETE,
            "sampled": self.name in SAMPLED,
            "averaged": self.name in PAIRED,
            "_captum": found,
        }
        for name, value in traits.items():
            object.__setattr__(self, name, value)

    @property
    def _found(self) -> _Captum:
        found: _Captum = vars(self)["_captum"]
        return found

    def evaluations(self, features: int) -> int:
        """As many as Captum passes at once."""
        return self._found.evaluations

    def check(self, model: Recommender, feature_mask: FeatureMask, baselines: int) -> None:
        """Explains a row of zeros, which finds models that the method does not support."""
        super().check(model, feature_mask, baselines)
        if self.neuron is not None:
            self._find(model)
        self.attribute_zeros(model, feature_mask)

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """Captum's attributions, summed over each feature."""
        rows = view.split(1) if self.name in ROW_BY_ROW else [view]
        found = []
        for part in rows:
            draw = seed + (int(part.index[0]) if self.name in ROW_BY_ROW else 0)
            with self._found.running(part.model, draw):
                found.append(self._attribute(part))
        return torch.cat(found).to(view.inputs.dense)

    def _attribute(self, view: MaskedModel) -> Tensor:
        captum = self._found
        logit = _Logit(view, self.view or ("mask" if captum.takes("baselines") else "inputs"))
        given = {"feature_mask": logit.feature_mask, "sliding_window_shapes": (1,)}
        if self.neuron is None:
            found = captum.attribute(logit, (logit,), **given)
        else:
            layer, unit = self._find(view.model)
            tap = view.model.layers[layer].activation_module
            last = _calls(view, {layer: view.model.layers[layer]})[layer] - 1
            with hook_point(logit, tap, last) as point:
                found = captum.attribute(logit, (logit, point), neuron_selector=unit, **given)
        return logit.by_feature(found, one_each=captum.takes("feature_mask"))

    def _find(self, model: Recommender) -> tuple[str, int]:
        """The neuron's layer, and its position there."""
        positions = {
            name: (layer, position)
            for layer, module in model.layers.items()
            for position, name in enumerate(module.neuron_names(layer))
        }
        neuron = self.neuron or ""
        if neuron not in positions:
            sizes = [f"{name} ({len(layer.units)})" for name, layer in model.layers.items()]
            raise ValueError(
                f"explain.method.neuron: {type(model).__name__} has no neuron {neuron!r}"
                f"{did_you_mean(neuron, positions)} (layers and their neurons: "
                f"{', '.join(sizes) or 'none'})"
            )
        return positions[neuron]


@dataclass(frozen=True)
class CaptumNeurons(NeuronMethod):
    """A `Layer*` method of `captum.attr`, or InternalInfluence, for each activation of each neuron.

    Args:
        name: of the class, such as `LayerActivation`.
        kwargs: arguments of its constructor and of `attribute`, such as `n_steps`.
    """

    name: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = _Captum("layer", "explain.neurons", self.name, self.kwargs)
        object.__setattr__(self, "_captum", found)

    @property
    def evaluations(self) -> int:
        """As many as Captum passes at once."""
        return int(vars(self)["_captum"].evaluations)

    def check(self, model: Recommender) -> None:
        """Explains a row of zeros, which finds models that the method does not support."""
        training, row = model.training, zero_row(model)
        try:
            self.values(model.eval(), row, row, 0)
        finally:
            model.train(training)

    def values(
        self, model: Recommender, inputs: Inputs, baseline: Inputs, task: int
    ) -> dict[str, Tensor]:
        """One call of Captum for each activation of each layer."""
        captum: _Captum = vars(self)["_captum"]
        count = sum(part[0].numel() for part in inputs)
        whole = FeatureMask(("inputs",), torch.zeros(count, dtype=torch.long, device=model.device))
        view = MaskedModel(model, whole, inputs, baseline.expand_to(inputs), task)
        logit = _Logit(view, "mask")
        with torch.no_grad(), activations(model.layers) as bases:
            model.task_logits(view.baseline)
        found: dict[str, list[Tensor]] = {name: [] for name in model.layers}
        for name, layer in model.layers.items():
            for call, base in enumerate(bases[name]):
                with (
                    hook_point(logit, layer.activation_module, call) as point,
                    captum.running(model, 0),
                ):
                    values = captum.attribute(logit, (logit, point), layer_baselines=base)
                if values.shape != base.shape:
                    raise ValueError(
                        f"captum.attr.{self.name} gives {tuple(values.shape)}, and not one value "
                        f"for each neuron {tuple(base.shape)}; take another explain.neurons.name"
                    )
                found[name].append(values)
        return {name: torch.stack(calls) for name, calls in found.items()}


class _Captum:
    """A class of `captum.attr` with the user's arguments, which are validated.

    Raises:
        ValueError: there is no such class in the family, or it has no such argument.
    """

    def __init__(self, family: Family, key: str, name: str, kwargs: Mapping[str, Any]) -> None:
        known = _classes(family)
        if name not in known:
            raise ValueError(
                f"{key}.name: captum.attr has no {family} method {name!r}{one_of(name, known)}"
            )
        self.name, self.type = name, known[PAIRED.get(name, name)]
        self.init, self.call = (
            inspect.signature(function).parameters
            for function in (self.type.__init__, self.type.attribute)
        )
        allowed = [each for each in (*self.init, *self.call) if each not in _GIVEN]
        for each in kwargs:
            if each not in allowed:
                raise ValueError(
                    f"{key}.kwargs.{each}: captum.attr.{name} has no such argument"
                    f"{one_of(each, allowed)}"
                )
        self.kwargs = {each: self._valid(key, each, value) for each, value in kwargs.items()}

    @property
    def evaluations(self) -> int:
        """How many rows Captum passes at once for each of ours."""
        many = 2 if "DeepLift" in self.name else 1
        names = ["n_steps", "perturbations_per_eval"]
        for each in [*names, *(["n_samples"] if "GradientShap" in self.name else [])]:
            if self.takes(each):
                many *= int(self.kwargs.get(each, self.call[each].default))
        return max(1, many)

    def takes(self, argument: str) -> bool:
        """Whether `attribute` has such an argument."""
        return argument in self.call

    def attribute(self, logit: _Logit, modules: tuple[nn.Module, ...], **given: Any) -> Tensor:
        """Captum's attributions for all rows; arguments that it does not take are left out."""
        given |= {
            "inputs": logit.start.requires_grad_(),
            "baselines": logit.end,
            "additional_forward_args": (torch.arange(logit.view.rows, device=logit.start.device),),
        }
        mine = {name: value for name, value in self.kwargs.items() if name in self.init}
        theirs = {name: value for name, value in given.items() if name in self.call}
        theirs |= {name: value for name, value in self.kwargs.items() if name in self.call}
        found: Tensor = self.type(*modules, **mine).attribute(**theirs)
        return found.detach()

    @contextmanager
    def running(self, model: nn.Module, seed: int) -> Iterator[None]:
        """Captum at work: its draws from the seed, its errors as ValueError, and no trace of it."""
        before = {module: set(vars(module)) for module in model.modules()}
        state, device = np.random.get_state(), next(model.parameters()).device
        try:
            with (
                warnings.catch_warnings(),
                torch.random.fork_rng([device] if device.type == "cuda" else []),
            ):
                warnings.filterwarnings("ignore", r"\s*Setting (forward, )?backward hooks")
                warnings.filterwarnings("ignore", "Minimum element in feature mask")
                torch.manual_seed(seed)
                np.random.seed(seed % 2**32)
                yield
        except torch.OutOfMemoryError:
            raise
        except (ArithmeticError, AssertionError, ImportError, LookupError, RuntimeError,
                TypeError, ValueError, AttributeError) as error:  # fmt: skip
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"captum.attr.{self.name} cannot explain {type(model).__name__}: {reason}; take "
                "another method, such as explain/method=deeplift or integrated_gradients"
            ) from error
        finally:
            np.random.set_state(state)
            # Captum leaves these on modules that no gradient reaches.
            for module, names in before.items():
                for name in {"input", "output", "input_ref"} & (set(vars(module)) - names):
                    delattr(module, name)

    def _valid(self, key: str, name: str, value: Any) -> Any:
        """The value of an argument as its annotation has it."""
        function = self.type.__init__ if name in self.init else self.type.attribute
        try:
            hint = get_type_hints(function).get(name, Any)
            adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        except (NameError, TypeError, ValueError):  # an annotation that only a type checker reads
            return value
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(f"{key}.kwargs.{name}: {value!r} is not allowed; {reason}") from None


def _classes(family: Family) -> dict[str, type[Any]]:
    """The classes of `captum.attr` that are built from a model alone, or a model and a layer."""
    import captum.attr

    found = {}
    for name, each in vars(captum.attr).items():
        if not inspect.isclass(each) or not callable(getattr(each, "attribute", None)):
            continue
        parameters = [*inspect.signature(each.__init__).parameters.values()][1:]
        required = [p.name for p in parameters if p.default is p.empty]
        layer = family != "input" and required[1:] == ["layer"]
        fits = required[:1] in (["forward_func"], ["model"]) and (layer or not required[1:])
        is_neuron = name.startswith("Neuron")
        if fits and layer == (family != "input") and is_neuron == (family == "neuron"):
            found[name] = each
    found.pop("GuidedGradCam", None)  # of images
    return dict(sorted(found.items()))


class _Logit(nn.Module):
    """The logit (B,) of the rows of a view, as a module of a mask (B, P) or of inputs (B, L)."""

    def __init__(self, view: MaskedModel, kind: Literal["mask", "inputs"]) -> None:
        super().__init__()
        self.model, self.view, self.on_mask = view.model, view, kind == "mask"
        self.shapes = [part.shape[1:] for part in view.inputs[:3]]
        if self.on_mask:
            self.start = view.inputs.dense.new_ones(view.rows, view.size)
            self.end = torch.zeros_like(self.start)
        else:
            self.start, self.end = self._flat(view.inputs), self._flat(view.masked_out)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """The logits; `rows` (B,) are the rows of the view that x stands for."""
        inputs = Inputs(*(part[rows] for part in self.view.inputs))
        if self.on_mask:
            baseline = Inputs(*(part[rows] for part in self.view.baseline))
            inputs = self.view.feature_mask.apply(x, inputs, baseline)
        else:
            inputs = self._inputs(x, inputs.steps)
        return self.model.task_logits(inputs)[:, self.view.task]

    @property
    def feature_mask(self) -> Tensor:
        """(1, P) or (1, L): the feature of each input; P for values in none."""
        if self.on_mask:
            return torch.arange(self.view.size, device=self.start.device).unsqueeze(0)
        ids = self.view.feature_mask.feature_ids[: self.start.shape[1]]
        return ids.where(ids >= 0, self.view.size).unsqueeze(0)

    def by_feature(self, values: Tensor, *, one_each: bool) -> Tensor:
        """(B, P): attributions of the inputs by feature, each once or summed over its values."""
        if self.on_mask:
            return values
        steps = torch.zeros_like(self.view.inputs.steps)
        mask = self.view.feature_mask
        total = mask.sum_by_feature(self._inputs(values, steps))
        if not one_each:
            return total
        return total / mask.sum_by_feature(self._inputs(torch.ones_like(values), steps))

    def _flat(self, inputs: Inputs) -> Tensor:
        return torch.cat([part.detach().flatten(1) for part in inputs[:3]], 1)

    def _inputs(self, flat: Tensor, steps: Tensor) -> Inputs:
        parts = flat.split([shape.numel() for shape in self.shapes], 1)
        each = zip(parts, self.shapes, strict=True)
        dense, fields, history = (part.unflatten(1, shape) for part, shape in each)
        return Inputs(dense, fields, history, steps)


def _calls(view: MaskedModel, layers: Mapping[str, Any]) -> dict[str, int]:
    """How often the model calls each layer for a row."""
    row = next(replace(view).split(1))
    with torch.no_grad(), activations(layers) as found:
        view.model.task_logits(row.inputs)
    return {name: len(calls) for name, calls in found.items()}


@contextmanager
def hook_point(logit: nn.Module, module: nn.Module, call: int) -> Iterator[nn.Module]:
    """A module that passes on the output of another at its n-th call of each forward pass.

    Captum's hooks on a module that is called once a time step would see the last step alone.
    """
    point, calls = nn.Identity(), [0]

    def count(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        calls[0] += 1
        return point(output) if calls[0] == call + 1 else output

    def restart(_module: nn.Module, _inputs: object) -> None:
        calls[0] = 0

    handles = module.register_forward_hook(count), logit.register_forward_pre_hook(restart)
    try:
        yield point
    finally:
        for handle in handles:
            handle.remove()

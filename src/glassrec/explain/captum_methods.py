"""Any method of Captum by its name: of inputs, of single neurons, and of whole layers.

Captum gets the masked view as a module of the mask (B, P), ones for the rows and zeros for their
baselines, so that its attributions are those of the inputs, summed over each feature. A method
without a baseline (Saliency, InputXGradient ...) gets the input values (B, L) themselves.
Captum is imported when a method of it is built: that takes a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from glassrec.explain.captum_classes import PAIRED, CaptumClass, Family, LogitModule, hook_point
from glassrec.explain.masking import FeatureMask, MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.neurons import NeuronMethod
from glassrec.explain.path import zero_row
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import activations, over_positions
from glassrec.spelling import did_you_mean

COMPLETE = {"DeepLift", "DeepLiftShap", "IntegratedGradients", "KernelShap", "ShapleyValues",
            "ShapleyValueSampling"}  # fmt: skip
"""Methods whose attributions should add up to the logit's difference."""

SAMPLED = {"FeaturePermutation", "GradientShap", "KernelShap", "Lime", "NeuronGradientShap",
           "ShapleyValueSampling"}  # fmt: skip
"""Methods with random draws."""

ROW_BY_ROW = {"GradientShap", "KernelShap", "Lime", "NeuronGradientShap"}
"""Methods whose draws would depend on the other rows of a batch."""


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
    captum: CaptumClass = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        family: Family = "neuron" if self.name.startswith("Neuron") else "input"
        captum = CaptumClass(family, "explain.method", self.name, self.kwargs)
        if (self.neuron is None) == (family == "neuron"):
            need = "explains inputs, and no neuron" if self.neuron else "needs one, as top.0[17]"
            raise ValueError(f"explain.method.neuron: {self.name} {need}")
        for name, value in {
            "complete": self.name in COMPLETE,
            "sampled": self.name in SAMPLED,
            "averaged": self.name in PAIRED,
            "captum": captum,
        }.items():
            object.__setattr__(self, name, value)

    def evaluations(self, features: int) -> int:
        """As many as Captum passes at once."""
        return self.captum.evaluations

    def check(self, model: Recommender, feature_mask: FeatureMask, baselines: int) -> None:
        """Explains a row of zeros, which finds models that the method does not support."""
        super().check(model, feature_mask, baselines)
        if self.neuron is not None:
            self._find(model, self.neuron)
        self.attribute_zeros(model, feature_mask)

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """Captum's attributions, summed over each feature."""
        alone = self.name in ROW_BY_ROW
        found = []
        for part in view.split(1) if alone else [view]:
            draw = seed + int(part.index[0]) if alone else seed
            with self.captum.running(part.model, draw):
                found.append(self._attribute(part))
        return torch.cat(found).to(view.inputs.dense)

    def _attribute(self, view: MaskedModel) -> Tensor:
        captum, model = self.captum, view.model
        logit = LogitModule(view, self.view or ("mask" if captum.takes("baselines") else "inputs"))
        given: dict[str, Any] = {
            "feature_mask": logit.feature_mask, "sliding_window_shapes": (1,),
        }  # fmt: skip
        if self.neuron is None:
            found = captum.attribute(logit, (logit,), **given)
        else:
            layer, given["neuron_selector"] = self._find(model, self.neuron)
            with torch.no_grad(), activations({layer: model.layers[layer]}) as calls:
                model.task_logits(next(view.split(1)).inputs)
            module, last = model.layers[layer].activation_module, len(calls[layer]) - 1
            with hook_point(logit, module, last) as point:
                found = captum.attribute(logit, (logit, point), **given)
        return logit.by_feature(found, one_each=captum.takes("feature_mask"))

    def _find(self, model: Recommender, neuron: str) -> tuple[str, int]:
        positions = {
            name: (layer, position)
            for layer, module in model.layers.items()
            for position, name in enumerate(module.neuron_names(layer))
        }
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
    captum: CaptumClass = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = CaptumClass("layer", "explain.neurons", self.name, self.kwargs)
        object.__setattr__(self, "captum", found)

    @property
    def evaluations(self) -> int:
        """As many as Captum passes at once."""
        return self.captum.evaluations

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
        count = sum(part[0].numel() for part in inputs)
        whole = FeatureMask(("inputs",), torch.zeros(count, dtype=torch.long, device=model.device))
        view = MaskedModel(model, whole, inputs, baseline.expand_to(inputs), task)
        logit = LogitModule(view, "mask")
        with torch.no_grad(), activations(model.layers) as bases:
            model.task_logits(view.baseline)
        found: dict[str, list[Tensor]] = {name: [] for name in model.layers}
        for name, layer in model.layers.items():
            for call, base in enumerate(bases[name]):
                module = layer.activation_module
                with hook_point(logit, module, call) as point, self.captum.running(model, 0):
                    values = self.captum.attribute(logit, (logit, point), layer_baselines=base)
                if values.shape != base.shape:
                    raise ValueError(
                        f"captum.attr.{self.name} gives {tuple(values.shape)}, and not one value "
                        f"for each neuron {tuple(base.shape)}; take another explain.neurons.name"
                    )
                found[name].append(values)
        return {n: over_positions(model.layers[n], calls) for n, calls in found.items()}

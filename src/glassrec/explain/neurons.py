"""Neurons: how much of a logit's difference from its baseline flows through each of them.

The conductance of a neuron (Dhamdhere, Sundararajan and Yan, ICLR 2019) is the integral, along the
straight path from baseline to row, of ∂logit/∂activation · d activation. One forward and one
backward pass over the nodes of the path give it for all layers at once, where one call for each
layer would repeat both. Over a bottleneck layer, which all paths to the logit pass, conductances
add up to the logit's difference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor, nn

from glassrec.explain.path import gauss_legendre, path_chunks, straight_path, trapezoid
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import activations, over_positions


class NeuronMethod(ABC):
    """A way to score the neurons of each row; a frozen dataclass whose fields are its settings."""

    title: str = ""
    """The name in figures, in which `{field}` is a setting; that of the class if it is empty."""

    @property
    def name(self) -> str:
        """The name in figures, with the settings."""
        return self.title.format(**vars(self)) or type(self).__name__

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """How many rows pass the model at once for each explained row."""

    def check(self, model: Recommender) -> None:  # noqa: B027  most support every model
        """ValueError, before anything runs, if the method does not support the model."""

    @abstractmethod
    def values(
        self, model: Recommender, inputs: Inputs, baseline: Inputs, task: int
    ) -> dict[str, Tensor]:
        """A value for each activation of each neuron: (C, B, U) for each of the model's layers.

        C is 1 but for recurrent layers, which have one activation for each time step. `inputs` are
        B embedded rows, `baseline` theirs, or one for all, and `task` is the column of the logits.
        """


@dataclass(frozen=True)
class Conductance(NeuronMethod):
    """Conductance of every neuron of every layer, in one forward and one backward pass.

    Each step of a recurrent neuron is a neuron of its own here: the flow through one step flows
    again through the next. The last one leaves the layer, so that its values, `[-1]`, add up like
    those of any other layer; a neuron whose last value is zero may act on others in earlier steps.

    Args:
        steps: of the path; one node more is evaluated.
        rule: `trapezoid`, equidistant nodes and the mean of the gradients at both ends of a step,
            with half the error of Captum's rule at the same number of nodes; or `captum`, the nodes
            and the left-end rule of `captum.attr.LayerConductance`, equal to it bit for bit.
    """

    title = "conductance, {steps} steps, {rule} rule"

    steps: Annotated[int, Ge(1)] = 32
    rule: Literal["trapezoid", "captum"] = "trapezoid"

    @property
    def evaluations(self) -> int:
        """One for each node."""
        return self.steps + 1

    def values(
        self,
        model: Recommender,
        inputs: Inputs,
        baseline: Inputs,
        task: int = 0,
        modules: Mapping[str, nn.Module] | None = None,
    ) -> dict[str, Tensor]:
        """As `NeuronMethod.values`; of other `modules` with outputs (B, U) if they are given."""
        modules = model.layers if modules is None else modules
        left_end = self.rule == "captum"
        nodes = (gauss_legendre(self.steps + 1) if left_end else trapezoid(self.steps)).nodes
        # The last bits of a matrix product depend on how many rows it has: as many as in Captum's.
        whole = [(inputs, baseline.expand_to(inputs))]
        chunks = whole if left_end else path_chunks(inputs, baseline, len(nodes))
        found: dict[str, list[Tensor]] = {name: [] for name in modules}
        for rows, bases in chunks:
            layers = layer_gradients(model, modules, straight_path(rows, bases, nodes), task)
            for name, values in found.items():
                calls = zip(layers.activations[name], layers.gradients[name], strict=True)
                flows = [_flow(*call, len(nodes), left_end) for call in calls]
                values.append(over_positions(modules[name], flows))
        return {name: torch.cat(values, 1) for name, values in found.items()}


class LayerGradients(NamedTuple):
    """Activations of modules and the logit's gradients by them: one (B, U) for each call."""

    activations: dict[str, list[Tensor]]
    gradients: dict[str, list[Tensor]]


def layer_gradients(
    model: Recommender, modules: Mapping[str, nn.Module], inputs: Inputs, task: int
) -> LayerGradients:
    """One forward and one backward pass for all modules; `inputs` require gradients."""
    with activations(modules) as found:
        logits = model.task_logits(inputs)[:, task]
    each = [values for calls in found.values() for values in calls]
    # What the logit does not read has the gradient zero.
    parts = iter(torch.autograd.grad(logits.sum(), each, materialize_grads=True) if each else ())
    gradients = {name: [next(parts) for _ in calls] for name, calls in found.items()}
    detached = {name: [values.detach() for values in calls] for name, calls in found.items()}
    return LayerGradients(detached, gradients)


def _flow(activation: Tensor, gradient: Tensor, nodes: int, left_end: bool) -> Tensor:
    """Σ over steps of gradient · change of activation: (nodes · B, U) to (B, U)."""
    rows = activation.shape[0] // nodes
    change = activation[rows:] - activation[:-rows]
    if left_end:
        return change.mul_(gradient[:-rows]).view(nodes - 1, rows, -1).sum(0)
    both = gradient[:-rows] + gradient[rows:]  # twice their mean
    return change.mul_(both).view(nodes - 1, rows, -1).sum(0).div_(2)

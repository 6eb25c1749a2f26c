"""Ways to tell what the units of a model's layers do for a logit, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from glassrec.explain.conductance import conductance
from glassrec.explain.path import average, between, feel, gauss_legendre, path, portions
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import activations


class NeuronMethod(ABC):
    """A method is a frozen dataclass: its fields are its configuration."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What figures call it, with its settings."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """How many rows pass the model at once for each explained row."""

    @abstractmethod
    def values(
        self, model: Recommender, inputs: Inputs, baseline: Inputs, task: int
    ) -> dict[str, Tensor]:
        """A value for each emission of each unit: (C, B, U) for each of the model's layers.

        C is 1 but for recurrent layers, which emit once a step.

        Args:
            model: in evaluation mode.
            inputs: B embedded rows.
            baseline: B rows beside them, or one for all.
            task: the column of the logits.
        """


@dataclass(frozen=True)
class Conductance(NeuronMethod):
    """What flows through a unit along the path (Dhamdhere, Sundararajan and Yan, ICLR 2019).

    Args:
        steps: of the path; one node more is evaluated.
        rule: trapezoid, or the nodes and the left-end rule of Captum, to the bit.
    """

    steps: Annotated[int, Ge(1)] = 32
    rule: Literal["trapezoid", "captum"] = "trapezoid"

    @property
    def name(self) -> str:
        """With its steps and rule."""
        return f"conductance, {self.steps} steps, {self.rule} rule"

    @property
    def evaluations(self) -> int:
        """One a node."""
        return self.steps + 1

    def values(
        self, model: Recommender, inputs: Inputs, baseline: Inputs, task: int
    ) -> dict[str, Tensor]:
        """All layers in one forward and one backward."""
        found = conductance(model, inputs, baseline, steps=self.steps, rule=self.rule, task=task)
        return found.emissions


@dataclass(frozen=True)
class Activation(NeuronMethod):
    """What a unit emits at the row, whatever the baseline and the task are."""

    @property
    def name(self) -> str:
        """It has no settings."""
        return "activation"

    @property
    def evaluations(self) -> int:
        """The row itself."""
        return 1

    @torch.no_grad()
    def values(
        self, model: Recommender, inputs: Inputs, baseline: Inputs, task: int
    ) -> dict[str, Tensor]:
        """All layers in one forward."""
        with activations(model.layers) as emitted:
            model.score(inputs)
        return {name: torch.stack(calls) for name, calls in emitted.items()}


@dataclass(frozen=True)
class AtNodes(NeuronMethod):
    """A method that looks at nodes of a path.

    Args:
        steps: nodes of the Gauss-Legendre rule, as in Captum.
    """

    title: ClassVar[str]

    steps: Annotated[int, Ge(1)] = 32

    @property
    def name(self) -> str:
        """With its nodes."""
        return f"{self.title}, {self.steps} Gauss-Legendre nodes"

    @property
    def evaluations(self) -> int:
        """One a node."""
        return self.steps


@dataclass(frozen=True)
class InternalInfluence(AtNodes):
    """The mean gradient by a unit along the path (Leino et al., ITC 2018)."""

    title: ClassVar[str] = "internal influence"

    def values(
        self, model: Recommender, inputs: Inputs, baseline: Inputs, task: int
    ) -> dict[str, Tensor]:
        """All layers in one forward and one backward."""
        rule = gauss_legendre(self.steps)
        found: dict[str, list[Tensor]] = {name: [] for name in model.layers}
        for rows, beside in portions(inputs, baseline, self.steps):
            felt = feel(model, model.layers, path(rows, beside, rule.nodes), task)
            for name, calls in felt.gradients.items():
                found[name].append(torch.stack([average(each, rule) for each in calls]))
        return {name: torch.cat(parts, 1) for name, parts in found.items()}


@dataclass(frozen=True)
class LayerIntegratedGradients(AtNodes):
    """Integrated gradients of what lies above a layer, by what the layer emits.

    The path leads from what the layer emits at the baseline to what it emits at the row, and all
    that does not pass through the layer is as in the row. So the values of the units do not add up
    to the logit's difference but where the layer is a cut.
    """

    title: ClassVar[str] = "layer integrated gradients"

    def values(
        self, model: Recommender, inputs: Inputs, baseline: Inputs, task: int
    ) -> dict[str, Tensor]:
        """One forward and one backward for each emission of each layer: each has its own path."""
        found: dict[str, list[Tensor]] = {name: [] for name in model.layers}
        for rows, beside in portions(inputs, baseline, self.steps):
            ends, starts = (Activation().values(model, x, x, task) for x in (rows, beside))
            at_nodes = Inputs(*(part.repeat(self.steps, *[1] * (part.ndim - 1)) for part in rows))
            for name, end in ends.items():
                each = enumerate(zip(starts[name], end, strict=True))
                parts = [self._emission(model, at_nodes, task, name, *step) for step in each]
                found[name].append(torch.stack(parts))
        return {name: torch.cat(parts, 1) for name, parts in found.items()}

    def _emission(
        self,
        model: Recommender,
        rows: Inputs,
        task: int,
        layer: str,
        call: int,
        ends: tuple[Tensor, Tensor],
    ) -> Tensor:
        """(B, U): the values of what a layer emits at its n-th call, given both ends of its path.

        `rows` are the explained ones, over and over, once a node.
        """
        rule = gauss_legendre(self.steps)
        start, end = ends
        points = between(start, end, rule.nodes).requires_grad_()
        with emitting(model.layers[layer].activation_module, call, points):
            logits = model.task_logits(rows)[:, task]
        (gradient,) = torch.autograd.grad(logits.sum(), points, materialize_grads=True)
        return average(gradient, rule) * (end - start)


@contextmanager
def emitting(tap: nn.Module, call: int, values: Tensor) -> Iterator[None]:
    """While the context is open, the module emits `values` at its n-th call, counted from 0."""
    calls = iter(range(call + 1))

    def replace(_module: nn.Module, _inputs: object, emitted: Tensor) -> Tensor:
        return values if next(calls, None) == call else emitted

    handle = tap.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()

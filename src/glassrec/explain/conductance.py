"""Conductance of every layer's units in one pass (Dhamdhere, Sundararajan and Yan, ICLR 2019).

Conductance of a unit is the integral, along the straight path from baseline to row, of
∂logit/∂activation · d activation. One forward and one backward over the path's nodes give it for
all layers at once, where a call a layer would repeat both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import activations

Rule = Literal["trapezoid", "captum"]
"""How the path is integrated.

trapezoid: equidistant nodes with both endpoints, the mean of the gradients at both ends of a step.
It has half the error of Captum's rule at the same number of nodes.
captum: the nodes and the left-end rule of `captum.attr.LayerConductance`, equal to it bit for bit.
"""


@dataclass(frozen=True)
class Conductance:
    """The path integral for B rows.

    A recurrent unit emits at every step of a history, and each emission is a node of its own: what
    flows through that of one step flows again through those of the steps behind it. Like the flows
    through two layers one above the other, they do not add up to anything.
    """

    emissions: dict[str, Tensor]
    """(C, B, U) for each layer: what flows through each of its C emissions; C is 1 but for
    recurrent layers"""
    inputs: Inputs
    """integrated gradients of the inputs, over the same nodes"""

    @property
    def layers(self) -> dict[str, Tensor]:
        """(B, U): what flows through the last emission, the one that leaves the layer.

        So a recurrent layer is a cut as any other layer: its units' values add up to what the
        history contributes. A unit of value zero may still act on others in an earlier step.
        """
        return {name: values[-1] for name, values in self.emissions.items()}


def conductance(
    model: Recommender,
    inputs: Inputs,
    baseline: Inputs,
    *,
    steps: int,
    rule: Rule = "trapezoid",
    task: int = 0,
) -> Conductance:
    """The conductance of every unit of every layer, in one forward and one backward.

    Args:
        model: in evaluation mode.
        inputs: B embedded rows.
        baseline: B rows, or one for all.
        steps: path steps; steps + 1 nodes are evaluated, so B · (steps + 1) rows pass the model.
        rule: the nodes and weights.
        task: the column of the logits.

    Returns:
        detached values for each row.
    """
    nodes, weights = _nodes(steps, rule)
    baseline = baseline.beside(inputs)
    path = Inputs(
        *(
            torch.cat([b + node * (x - b) for node in nodes]).requires_grad_()
            for x, b in zip(inputs, baseline, strict=True)
        )
    )
    with activations(model.layers) as emitted:
        logits = model.score(path)[:, task]
    emissions = [each for calls in emitted.values() for each in calls]
    # Unused inputs (a model without history, say) have no gradient: they move nothing.
    gradients = torch.autograd.grad(logits.sum(), [*emissions, *path], materialize_grads=True)
    with torch.no_grad():
        of_emissions = iter(gradients)
        values = {
            name: torch.stack(
                [_integrate(e.detach(), next(of_emissions), len(nodes), rule) for e in calls]
            )
            for name, calls in emitted.items()
        }
        along = zip(inputs, baseline, gradients[len(emissions) :], strict=True)
        parts = Inputs(*(_average(gradient, weights) * (x - b) for x, b, gradient in along))
    return Conductance(values, parts)


def _nodes(steps: int, rule: Rule) -> tuple[list[float], list[float]]:
    """The nodes on [0, 1] and their weights, which add up to 1."""
    if rule == "captum":
        # Here, as Captum takes a second to import and the default needs nothing of it.
        from captum.attr._utils.approximation_methods import approximation_parameters

        weights_of, nodes_of = approximation_parameters("gausslegendre")
        return nodes_of(steps + 1), weights_of(steps + 1)
    nodes = torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()
    return nodes, [0.5 / steps, *[1 / steps] * (steps - 1), 0.5 / steps]


def _integrate(emitted: Tensor, gradient: Tensor, nodes: int, rule: Rule) -> Tensor:
    """Σ over steps of gradient · change of activation: (nodes · B, U) to (B, U)."""
    rows = emitted.shape[0] // nodes
    change = emitted[rows:] - emitted[:-rows]
    left = gradient[:-rows]
    weight = left if rule == "captum" else (left + gradient[rows:]) / 2
    return (weight * change).reshape(nodes - 1, rows, -1).sum(0)


def _average(gradient: Tensor, weights: list[float]) -> Tensor:
    """The weighted sum over nodes: (nodes · B, ...) to (B, ...)."""
    by_node = gradient.unflatten(0, (len(weights), gradient.shape[0] // len(weights)))
    return torch.tensordot(gradient.new_tensor(weights), by_node, 1)

"""Conductance of every layer's units in one pass (Dhamdhere, Sundararajan and Yan, ICLR 2019).

Conductance of a unit is the integral, along the straight path from baseline to row, of
∂logit/∂activation · d activation. One forward and one backward over the path's nodes give it for
all layers at once, where a call a layer would repeat both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from glassrec.explain.path import feel, gauss_legendre, path, portions, trapezoid
from glassrec.models.base import Inputs, Recommender

Rule = Literal["trapezoid", "captum"]
"""How the path is integrated.

trapezoid: equidistant nodes with both endpoints, the mean of the gradients at both ends of a step.
It has half the error of Captum's rule at the same number of nodes.
captum: the nodes and the left-end rule of `captum.attr.LayerConductance`, equal to it bit for bit.
"""


@dataclass(frozen=True)
class Flow:
    """What flows through units, for B rows.

    A recurrent unit emits at every step of a history, and each emission is a node of its own: what
    flows through that of one step flows again through those of the steps behind it. Like the flows
    through two layers one above the other, they do not add up to anything.
    """

    emissions: dict[str, Tensor]
    """(C, B, U) for each layer: what flows through each of its C emissions; C is 1 but for
    recurrent layers"""

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
    modules: Mapping[str, nn.Module] | None = None,
) -> Flow:
    """The conductance of every unit of every layer, in one forward and one backward.

    Args:
        model: in evaluation mode.
        inputs: B embedded rows.
        baseline: B rows, or one for all.
        steps: path steps; steps + 1 nodes are evaluated, so B · (steps + 1) rows pass the model.
        rule: the nodes and weights.
        task: the column of the logits.
        modules: what emits (B, U); the model's layers if None.

    Returns:
        detached values for each row.
    """
    modules = model.layers if modules is None else modules
    nodes = gauss_legendre(steps + 1).nodes if rule == "captum" else trapezoid(steps).nodes
    # The last bits of a matrix product depend on how many rows it has: as many as in Captum's.
    whole = [(inputs, baseline.expand_to(inputs))]
    parts = whole if rule == "captum" else portions(inputs, baseline, len(nodes))
    found: dict[str, list[Tensor]] = {name: [] for name in modules}
    for rows, beside in parts:
        felt = feel(model, modules, path(rows, beside, nodes), task)
        for name, values in found.items():
            each = zip(felt.emitted[name], felt.gradients[name], strict=True)
            values.append(torch.stack([_integrate(e, g, len(nodes), rule) for e, g in each]))
    return Flow({name: torch.cat(values, 1) for name, values in found.items()})


def _integrate(emitted: Tensor, gradient: Tensor, nodes: int, rule: Rule) -> Tensor:
    """Σ over steps of gradient · change of activation: (nodes · B, U) to (B, U)."""
    rows = emitted.shape[0] // nodes
    change = emitted[rows:] - emitted[:-rows]
    if rule == "captum":
        return change.mul_(gradient[:-rows]).view(nodes - 1, rows, -1).sum(0)
    both = gradient[:-rows] + gradient[rows:]  # twice their mean
    return change.mul_(both).view(nodes - 1, rows, -1).sum(0).div_(2)

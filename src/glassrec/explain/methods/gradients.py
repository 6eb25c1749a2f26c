"""Methods that average the logit's gradient between the baseline and the row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.path import gauss_legendre

MAX_STEPS = 128
"""Nodes up to which integrated gradients are refined where their completeness error is large."""


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients (Sundararajan, Taly and Yan, ICML 2017) by the mask.

    Args:
        steps: nodes of the Gauss-Legendre rule, as in Captum.
    """

    title = "integrated gradients, {steps} Gauss-Legendre nodes"
    complete = True

    steps: Annotated[int, Ge(1)] = 32

    def finer(self) -> IntegratedGradients | None:
        """With twice the nodes, at most `MAX_STEPS`."""
        more = min(2 * self.steps, MAX_STEPS)
        return replace(self, steps=more) if more > self.steps else None

    def evaluations(self, features: int) -> int:
        """One for each node."""
        return self.steps

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """Gradients by the mask, averaged along the straight path."""
        rule = gauss_legendre(self.steps)
        nodes = torch.tensor(rule.nodes, dtype=torch.float64).unsqueeze(1).expand(-1, view.size)
        gradients = view.gradients(nodes)
        return torch.einsum("bcp,c->bp", gradients, gradients.new_tensor(rule.weights))


@dataclass(frozen=True)
class GradientShap(Method):
    """Expected gradients (Erion et al., 2021), known as GradientSHAP (Lundberg and Lee, 2017).

    Gradients at random points between the row and random training rows, which are those of
    `explain.baseline=background`. The more of both, the nearer it comes to integrated gradients
    averaged over all training rows. Captum's draws depend on the rows of a batch; these do not.

    Args:
        samples: points on the way from each training row.
    """

    title = "GradientSHAP, {samples} points a training row"
    sampled = True
    averaged = True

    samples: Annotated[int, Ge(1)] = 4

    def evaluations(self, features: int) -> int:
        """One for each point."""
        return self.samples

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """Gradients by the mask, averaged over the points.

        All rows share one draw, and each turns it by its own number times the golden ratio, as
        Cranley and Patterson (1976) do: uniform for each row, whatever the other rows are.
        """
        generator = torch.Generator().manual_seed(seed)
        draw = torch.rand(self.samples, generator=generator, dtype=torch.float64)
        turn = view.index.cpu().double() * ((5**0.5 - 1) / 2)
        points = (draw + turn.unsqueeze(1)) % 1
        return view.gradients(points.unsqueeze(2).expand(-1, -1, view.size)).mean(1)

"""Methods that follow the logit's gradient between the baseline and the row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from glassrec.explain.game import Game
from glassrec.explain.methods import Method
from glassrec.explain.path import gauss_legendre

MOST_STEPS = 128
"""Nodes up to which integrated gradients are refined where their parts do not add up."""


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients (Sundararajan, Taly and Yan, ICML 2017) over the players' gates.

    Args:
        steps: nodes of the Gauss-Legendre rule, as in Captum.
    """

    complete: ClassVar[bool] = True

    steps: Annotated[int, Ge(1)] = 32

    def finer(self) -> IntegratedGradients | None:
        """With twice the nodes, at most `MOST_STEPS`."""
        more = min(2 * self.steps, MOST_STEPS)
        return replace(self, steps=more) if more > self.steps else None

    @property
    def name(self) -> str:
        """With its nodes."""
        return f"integrated gradients, {self.steps} Gauss-Legendre nodes"

    def evaluations(self, players: int) -> int:
        """One a node."""
        return self.steps

    def attribute(self, game: Game, seed: int) -> Tensor:
        """Gradients over gates, averaged along the straight path."""
        rule = gauss_legendre(self.steps)
        on = torch.tensor(rule.nodes, dtype=torch.float64).unsqueeze(1).expand(-1, game.players)
        gradients = game.gradients(on)
        return torch.einsum("bcp,c->bp", gradients, gradients.new_tensor(rule.weights))


@dataclass(frozen=True)
class InputXGradient(Method):
    """The gradient at the row, times the row's difference from its baseline.

    As in Shrikumar et al. (arXiv:1605.01713), whose baseline is zero.
    """

    @property
    def name(self) -> str:
        """It has no settings."""
        return "input × gradient"

    def evaluations(self, players: int) -> int:
        """The row."""
        return 1

    def attribute(self, game: Game, seed: int) -> Tensor:
        """The gradient over gates that are all on."""
        return game.gradients(torch.ones(1, game.players)).squeeze(1)


@dataclass(frozen=True)
class GradientShap(Method):
    """Expected gradients (Erion et al., 2021), known as GradientSHAP (Lundberg and Lee, 2017).

    Gradients at random points between the row and random training rows, which are those of
    `explain.baseline=background`. The more of both, the nearer it comes to integrated gradients
    averaged over all training rows.

    Args:
        samples: points on the way from each training row.
    """

    sampled: ClassVar[bool] = True
    averaged: ClassVar[bool] = True

    samples: Annotated[int, Ge(1)] = 4

    @property
    def name(self) -> str:
        """With its points."""
        return f"GradientSHAP, {self.samples} points a training row"

    def evaluations(self, players: int) -> int:
        """One a point."""
        return self.samples

    def attribute(self, game: Game, seed: int) -> Tensor:
        """Gradients over gates, averaged over the points.

        All rows share one draw, and each turns it by its own number times the golden ratio, as
        Cranley and Patterson (1976) do: uniform for each row, whatever rows are beside it.
        """
        generator = torch.Generator().manual_seed(seed)
        draw = torch.rand(self.samples, generator=generator, dtype=torch.float64)
        turn = game.index.cpu().double() * ((5**0.5 - 1) / 2)
        points = (draw + turn.unsqueeze(1)) % 1
        return game.gradients(points.unsqueeze(2).expand(-1, -1, game.players)).mean(1)

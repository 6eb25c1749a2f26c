"""Methods that follow the logit's gradient between the baseline and the row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from glassrec.explain.game import Game
from glassrec.explain.methods import Method


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients (Sundararajan, Taly and Yan, ICML 2017) over the players' gates.

    Args:
        steps: nodes of the Gauss-Legendre rule, as in Captum.
    """

    complete: ClassVar[bool] = True

    steps: Annotated[int, Ge(1)] = 32

    @property
    def name(self) -> str:
        """With its nodes."""
        return f"integrated gradients, {self.steps} Gauss-Legendre nodes"

    def evaluations(self, players: int) -> int:
        """One a node."""
        return self.steps

    def attribute(self, game: Game, seed: int) -> Tensor:
        """Gradients over gates, averaged along the straight path."""
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        on = torch.from_numpy((1 + nodes) / 2).unsqueeze(1).expand(-1, game.players)
        gradients = game.gradients(on)
        return torch.einsum("bcp,c->bp", gradients, torch.from_numpy(weights / 2).to(gradients))

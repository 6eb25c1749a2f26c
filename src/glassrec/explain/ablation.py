"""Methods that take players away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glassrec.explain.game import Game
from glassrec.explain.methods import Method


@dataclass(frozen=True)
class FeatureAblation(Method):
    """What the logit loses when one player goes to its baseline and all others stay."""

    @property
    def name(self) -> str:
        """It has no settings."""
        return "feature ablation"

    def evaluations(self, players: int) -> int:
        """The row, and one without each player."""
        return players + 1

    def attribute(self, game: Game, seed: int) -> Tensor:
        """f(x) − f(x without i)."""
        on = torch.ones(game.players + 1, game.players)
        on[1:].fill_diagonal_(0)
        logits = game.logits(on)
        return (logits[:, :1] - logits[:, 1:]).to(game.inputs.dense)

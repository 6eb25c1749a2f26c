"""Shapley values without sampling: every coalition of the players passes the model.

Between a row and one row of training data they say how much of the difference each raw feature
makes; averaged over such rows they are the interventional SHAP values with that background
(Lundberg and Lee, NeurIPS 2017).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from glassrec.explain.game import Game
from glassrec.explain.methods import Method

AT_ONCE = 4096
"""Coalitions of a row that pass the model together."""


@dataclass(frozen=True)
class Shapley(Method):
    """Exact Shapley values (Shapley, 1953), by all 2^P coalitions of P players.

    Args:
        max_players: how many are allowed; one more doubles the time.
    """

    complete: ClassVar[bool] = True

    max_players: Annotated[int, Interval(ge=1, le=24)] = 12

    @property
    def name(self) -> str:
        """Without settings: they do not change the values."""
        return "exact Shapley values"

    def evaluations(self, players: int) -> int:
        """All coalitions, or as many as pass at once; ValueError if they are too many."""
        if players > self.max_players:
            raise ValueError(
                f"exact Shapley values of {players} players need {2**players:,} evaluations a row; "
                f"raise explain.method.max_players ({self.max_players}), take fewer players "
                "(explain.players), or explain/method=integrated_gradients"
            )
        return min(2**players, AT_ONCE)

    def attribute(self, game: Game, seed: int) -> Tensor:
        """The mean over all orders of what a player adds to those before it; summed in float64."""
        total: Tensor | float = 0.0
        for coalitions, weights in _coalitions(game.players):
            worth = game.logits(coalitions)
            total = total + worth @ weights.to(worth)
        assert isinstance(total, Tensor), "there is at least one coalition"
        return total.to(game.inputs.dense)


def _coalitions(players: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All (C, P) sets of players, 1 = in, at most `AT_ONCE` at a time, and what they count for.

    A set S counts (|S| − 1)! (P − |S|)! / P! for who is in it and −|S|! (P − |S| − 1)! / P! for who
    is not: (C, P) float64, and the values are worth (B, C) @ this.
    """
    inside = [0.0, *(1 / (players * comb(players - 1, size)) for size in range(players))]
    outside = [*(-share for share in inside[1:]), 0.0]
    shares = torch.tensor([outside, inside], dtype=torch.float64)
    bits = torch.arange(players)
    for start in range(0, 2**players, AT_ONCE):
        codes = torch.arange(start, min(start + AT_ONCE, 2**players))
        members = (codes.unsqueeze(1) >> bits) & 1
        yield members, shares[members, members.sum(1, keepdim=True)]

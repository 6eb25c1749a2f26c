"""Shapley values: what a player adds to those before it, averaged over all orders or over some.

Between a row and one row of training data they say how much of the difference each raw feature
makes; averaged over such rows they are the interventional SHAP values with that background
(Lundberg and Lee, NeurIPS 2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import comb
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from glassrec.explain.game import Game
from glassrec.explain.methods import Method

AT_ONCE = 4096
"""Coalitions of a row that pass the model together."""


def weigh(game: Game, coalitions: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Values that are linear in the logits, Σ over coalitions of logit · weight: (B, P).

    They are summed in float64.

    Args:
        game: the rows and the players.
        coalitions: (C, P) sets of players, 1 = in, and their weights (C, P), for all rows alike.
    """
    total: Tensor | float = 0.0
    for members, weights in coalitions:
        on, weights = members.to(game.inputs.dense), weights.to(game.exact)
        found = [part.logits(on) @ weights for part in game.parts(len(on))]
        total = total + torch.cat(found)
    assert isinstance(total, Tensor), "there is at least one coalition"
    return total.to(game.inputs.dense)


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
            many = f"{2**players:,}" if players <= 24 else f"2^{players}"
            raise ValueError(
                f"exact Shapley values of {players} players need {many} evaluations a row; "
                f"raise explain.method.max_players ({self.max_players}), take fewer players "
                "(explain.players), or explain/method=kernel_shap"
            )
        return min(2**players, AT_ONCE)

    def attribute(self, game: Game, seed: int) -> Tensor:
        """The mean over all orders of what a player adds to those before it; summed in float64."""
        return weigh(game, _coalitions(game.players))


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


@dataclass(frozen=True)
class ShapleySampling(Method):
    """Shapley values from random orders of the players (Castro, Gómez and Tejada, 2009).

    Each order is drawn with its reverse, whose errors tend to cancel (Mitchell et al., JMLR 2022).
    In every order the players' parts add up to the difference, and so do their means. All rows
    share the orders.

    Args:
        permutations: how many orders are drawn, each with its reverse. Each takes 2 (P − 1)
            evaluations a row.
    """

    complete: ClassVar[bool] = True
    sampled: ClassVar[bool] = True

    permutations: Annotated[int, Ge(1)] = 64

    @property
    def name(self) -> str:
        """With the number of orders."""
        return f"Shapley values by sampling, {self.permutations} orders and their reverses"

    def evaluations(self, players: int) -> int:
        """Two a player and order, or as many as pass at once."""
        return min(2 + 2 * self.permutations * (players - 1), AT_ONCE)

    def attribute(self, game: Game, seed: int) -> Tensor:
        """The mean over the drawn orders, summed in float64."""
        return weigh(game, _nested(_orders(self.permutations, game.players, seed)))


def _orders(count: int, players: int, seed: int) -> Tensor:
    """(count, P): the place of each player in each of `count` random orders."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, players, generator=generator).argsort(1)


def _nested(orders: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The coalitions of who comes first in (N, P) orders and their reverses, and their weights.

    The first k players of an order count +1 / 2N for the k-th, who has just joined, and −1 / 2N for
    the next one. The others are the first P − k of the reverse, where the same two change roles:
    they count the opposite.
    """
    count, players = orders.shape
    share = 1 / (2 * count)
    ends = share * ((orders == 0).double() + (orders == players - 1).double()).sum(0)
    yield torch.eye(2)[:, :1].expand(-1, players), torch.stack([ends, -ends])
    if players == 1:
        return  # nothing is between all and none
    sizes = torch.arange(1, players).view(1, -1, 1)
    for part in orders.unsqueeze(1).split(max(1, AT_ONCE // (2 * players))):
        members = (part < sizes).flatten(0, 1)
        joins = ((part == sizes - 1).double() - (part == sizes).double()).flatten(0, 1)
        yield torch.cat([members, ~members]), share * torch.cat([joins, -joins])

"""KernelSHAP: Shapley values as a weighted least squares fit of sums of players to coalitions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, islice
from math import comb
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from glassrec.explain.game import Game
from glassrec.explain.methods import Method
from glassrec.explain.shapley import weigh

ENUMERATED = 12
"""Up to so many players every coalition is taken, however few samples are asked for."""


@dataclass(frozen=True)
class KernelShap(Method):
    """KernelSHAP (Lundberg and Lee, NeurIPS 2017), for all rows by one matrix product.

    It fits Σ over members of φ to the worth of coalitions, weighted by the Shapley kernel, with the
    sum of all φ held at the difference. Each coalition comes with its complement (Covert and Lee,
    AISTATS 2021). The smallest ones and their complements, which weigh most, are taken all, size by
    size while there are samples for it; the others are drawn. Rows share the coalitions: then the
    fit depends on no row, and is a matrix that is made once. What the draw errs is common to all
    rows too; another seed shows it.

    Args:
        samples: how many coalitions, at least two a player; 2,048 and two a player if None, as in
            `shap`. With up to 12 players, or samples for all, all are taken: then nothing is drawn,
            and the values are the exact Shapley values.
    """

    complete: ClassVar[bool] = True
    sampled: ClassVar[bool] = True

    samples: Annotated[int, Ge(2)] | None = None

    @property
    def name(self) -> str:
        """With the number of coalitions, if it is given."""
        return "KernelSHAP" if self.samples is None else f"KernelSHAP, {self.samples} coalitions"

    def draws(self, players: int) -> bool:
        """Not if whole sizes use the samples up, as where all coalitions are taken."""
        return _plan(players, self._pairs(players))[1] > 0

    def evaluations(self, players: int) -> int:
        """One a coalition, none and all among them; ValueError if they are too few."""
        return 2 + min(2 * self._pairs(players), 2**players - 2)

    def attribute(self, game: Game, seed: int) -> Tensor:
        """The solution of the least squares fit; its parts add up but for rounding errors."""
        return weigh(game, [_fit(game.players, self._pairs(game.players), seed)])

    def _pairs(self, players: int) -> int:
        """How many coalitions there may be, each with its complement; not counting none and all."""
        if players <= ENUMERATED:
            return 2 ** (ENUMERATED - 1)
        pairs = players + 1024 if self.samples is None else self.samples // 2
        if pairs < players:
            raise ValueError(
                f"KernelSHAP with {2 * pairs} coalitions cannot tell {players} players apart; set "
                f"explain.method.samples to {2 * players} at least, or better to many more"
            )
        return pairs


@lru_cache(maxsize=2)
def _fit(players: int, pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Coalitions (C, P), none and all in front, and the weights (C, P) of their logits.

    The fit leaves Δ / P to each player. What that misses of a coalition S, v(S) − v(∅) − Δ |S| / P,
    is fitted by members that are centred at |S| / P: they are at right angles to equal parts for
    all, so that nothing is added to the sum. Equal parts for all are then the one direction that
    is not determined; the last term of the Gram matrix holds it. With all coalitions that matrix is
    a multiple of the identity but for it, and single players, who are always there, keep it far
    from singular.
    """
    members, kernel = _coalitions(players, pairs, seed)
    share = members.mean(1, keepdim=True)
    weighted = (members - share) * kernel.unsqueeze(1)
    gram = weighted.T @ (members - share) + 1 / players
    weights = torch.linalg.solve(gram, weighted.T).T
    of_all = 1 / players - (share * weights).sum(0)
    of_none = -of_all - weights.sum(0)
    ends = torch.eye(2, dtype=torch.float64)[:, 1:].expand(-1, players)
    return torch.cat([ends, members]), torch.cat([torch.stack([of_none, of_all]), weights])


def _coalitions(players: int, pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Coalitions (C, P) in float64, the second half the complements, and their kernel (C,).

    The kernel gives each size s the mass (P − 1) / (s (P − s)). All coalitions of a size share it;
    those that are drawn share the masses of all sizes that are left.
    """
    whole, left = _plan(players, pairs)
    masses = torch.tensor(_masses(players), dtype=torch.float64)
    members = [_every(players, size) for size in range(1, whole + 1)]
    kernel = [masses[at].expand(len(each)) / len(each) for at, each in enumerate(members)]
    if left:
        members.append(_drawn(players, whole + 1, masses[whole:], left, seed))
        kernel.append(masses[whole:].sum().expand(left) / left)
    taken = torch.cat([torch.empty(0, players), *members]).double()
    return torch.cat([taken, 1 - taken]), torch.cat([masses[:0], *kernel]).repeat(2)


def _masses(players: int) -> list[float]:
    """The kernel's mass of each size up to half the players, in pairs with its complement."""
    sizes = range(1, players // 2 + 1)
    # Of the coalitions of half the players, half are the others' complements.
    return [
        (players - 1) / (size * (players - size)) / (2 if 2 * size == players else 1)
        for size in sizes
    ]


def _plan(players: int, pairs: int) -> tuple[int, int]:
    """Up to which size all coalitions are taken, and how many pairs are then left to be drawn.

    As in `shap`, a size is taken whole if no fewer of it than there are would be drawn; and single
    players always, so that the fit is determined.
    """
    masses = _masses(players)
    for size, mass in enumerate(masses, start=1):
        count = _count(players, size)
        if size > 1 and count > pairs * (mass / sum(masses[size - 1 :])):
            return size - 1, pairs
        pairs -= count
    return players // 2, 0


def _count(players: int, size: int) -> int:
    """How many pairs of a coalition of that size and its complement there are."""
    return comb(players, size) // (2 if 2 * size == players else 1)


def _every(players: int, size: int) -> Tensor:
    """All (C, P) coalitions of a size; of half the players those with player 0, who come first."""
    chosen = torch.tensor([*islice(combinations(range(players), size), _count(players, size))])
    return torch.zeros(len(chosen), players).scatter_(1, chosen, 1)


def _drawn(players: int, smallest: int, masses: Tensor, count: int, seed: int) -> Tensor:
    """(C, P) random coalitions, of sizes from `smallest` on in proportion to their masses."""
    generator = torch.Generator().manual_seed(seed)
    # Sizes at equal steps through the masses, from a random start, vary less than sizes drawn.
    places = (torch.arange(count) + torch.rand(1, generator=generator).double()) / count
    sizes = smallest + torch.searchsorted(masses.cumsum(0)[:-1] / masses.sum(), places)
    ranks = torch.rand(count, players, generator=generator).argsort(1)
    return (ranks < sizes.unsqueeze(1)).float()

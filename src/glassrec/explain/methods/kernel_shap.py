"""KernelSHAP: Shapley values as a weighted least squares fit of sums of features to coalitions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, islice
from math import comb
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import Method
from glassrec.explain.methods.coalitions import weighted_logits

ENUMERATED = 12
"""Up to so many features every coalition is taken, however few samples are asked for."""


@dataclass(frozen=True)
class KernelShap(Method):
    """KernelSHAP (Lundberg and Lee, NeurIPS 2017), for all rows by one matrix product.

    It fits Σ over members of φ to the value of coalitions, weighted by the Shapley kernel, with the
    sum of all φ fixed at the difference. Each coalition comes with its complement (Covert and Lee,
    AISTATS 2021). The smallest ones and their complements, which weigh most, are all taken, size by
    size while there are samples for it; the others are drawn. Rows share the coalitions, so that
    the fit is one matrix for all rows. The error of the draw is common to all rows, too; another
    seed shows it.

    Args:
        samples: how many coalitions, at least two a feature; 2,048 and two a feature if None, as in
            `shap`. With up to 12 features, or samples for all, all are taken: then nothing is
            drawn, and the values are the exact Shapley values.
    """

    complete = True
    sampled = True

    samples: Annotated[int, Ge(2)] | None = None

    @property
    def name(self) -> str:
        """With the number of coalitions, if it is given."""
        return "KernelSHAP" if self.samples is None else f"KernelSHAP, {self.samples} coalitions"

    def draws(self, features: int) -> bool:
        """Not if whole sizes use the samples up, as where all coalitions are taken."""
        return _plan(features, self._pairs(features))[1] > 0

    def evaluations(self, features: int) -> int:
        """One for each coalition, also empty and grand; ValueError if they are too few."""
        return 2 + min(2 * self._pairs(features), 2**features - 2)

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """The solution of the least squares fit; it is complete but for rounding errors."""
        return weighted_logits(view, [_fit(view.size, self._pairs(view.size), seed)])

    def _pairs(self, features: int) -> int:
        if features <= ENUMERATED:
            return 2 ** (ENUMERATED - 1)
        pairs = features + 1024 if self.samples is None else self.samples // 2
        if pairs < features:
            raise ValueError(
                f"KernelSHAP cannot distinguish {features} features with {2 * pairs} coalitions; "
                f"set explain.method.samples to {2 * features} at least, or better to many more"
            )
        return pairs


@lru_cache(maxsize=2)
def _fit(features: int, pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Coalitions (C, P), the empty and the grand one first, and the weights (C, P) of their logits.

    Each feature gets Δ / P. The rest of a coalition S, v(S) − v(∅) − Δ |S| / P, is fitted by
    members that are centred at |S| / P: orthogonal to equal values for all, so that nothing is
    added to the sum. The last term of the Gram matrix fixes that one direction, which is not
    determined.
    """
    members, kernel = _coalitions(features, pairs, seed)
    share = members.mean(1, keepdim=True)
    weighted = (members - share) * kernel.unsqueeze(1)
    gram = weighted.T @ (members - share) + 1 / features
    weights = torch.linalg.solve(gram, weighted.T).T
    of_all = 1 / features - (share * weights).sum(0)
    of_none = -of_all - weights.sum(0)
    ends = torch.eye(2, dtype=torch.float64)[:, 1:].expand(-1, features)
    return torch.cat([ends, members]), torch.cat([torch.stack([of_none, of_all]), weights])


def _coalitions(features: int, pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Coalitions (C, P) in float64, the second half the complements, and their kernel (C,).

    The kernel gives each size s the mass (P − 1) / (s (P − s)). All coalitions of a size share it;
    those that are drawn share the masses of all sizes that are left.
    """
    whole, left = _plan(features, pairs)
    masses = torch.tensor(_masses(features), dtype=torch.float64)
    members = [_every(features, size) for size in range(1, whole + 1)]
    kernel = [masses[at].expand(len(each)) / len(each) for at, each in enumerate(members)]
    if left:
        members.append(_drawn(features, whole + 1, masses[whole:], left, seed))
        kernel.append(masses[whole:].sum().expand(left) / left)
    taken = torch.cat([torch.empty(0, features), *members]).double()
    return torch.cat([taken, 1 - taken]), torch.cat([masses[:0], *kernel]).repeat(2)


def _masses(features: int) -> list[float]:
    """The kernel's mass of each size up to half the features, in pairs with its complement."""
    # Of the coalitions of half the features, half are the others' complements.
    return [
        (features - 1) / (size * (features - size)) / (2 if 2 * size == features else 1)
        for size in range(1, features // 2 + 1)
    ]


def _plan(features: int, pairs: int) -> tuple[int, int]:
    """The size up to which all coalitions are taken, and the number of pairs left to be drawn.

    As in `shap`, a size is taken whole if no fewer of it than there are would be drawn; single
    features always are.
    """
    masses = _masses(features)
    for size, mass in enumerate(masses, start=1):
        count = _count(features, size)
        if size > 1 and count > pairs * (mass / sum(masses[size - 1 :])):
            return size - 1, pairs
        pairs -= count
    return features // 2, 0


def _count(features: int, size: int) -> int:
    """The number of pairs of a coalition of that size and its complement."""
    return comb(features, size) // (2 if 2 * size == features else 1)


def _every(features: int, size: int) -> Tensor:
    chosen = torch.tensor([*islice(combinations(range(features), size), _count(features, size))])
    return torch.zeros(len(chosen), features).scatter_(1, chosen, 1)


def _drawn(features: int, smallest: int, masses: Tensor, count: int, seed: int) -> Tensor:
    """(C, P) random coalitions, of sizes from `smallest` on in proportion to their masses."""
    generator = torch.Generator().manual_seed(seed)
    # Sizes at equal steps through the masses, from a random start, vary less than sizes drawn.
    places = (torch.arange(count) + torch.rand(1, generator=generator).double()) / count
    sizes = smallest + torch.searchsorted(masses.cumsum(0)[:-1] / masses.sum(), places)
    ranks = torch.rand(count, features, generator=generator).argsort(1)
    return (ranks < sizes.unsqueeze(1)).float()

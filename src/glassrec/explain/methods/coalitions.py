"""Methods that mask features out: one or two at a time, in all coalitions, or in random orders.

The Shapley value of a feature is what it adds to those before it, averaged over all orders. Between
a row and one row of training data it says how much of the difference each feature makes; averaged
over such rows it is the interventional SHAP value with that background (Lundberg and Lee, NeurIPS
2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import comb
from typing import Annotated

import pandas as pd
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from glassrec.explain.masking import MaskedModel
from glassrec.explain.methods import Method

COALITIONS_AT_ONCE = 4096
"""Coalitions of a row that pass the model together."""


@dataclass(frozen=True)
class FeatureAblation(Method):
    """The fall of the logit when one feature goes to its baseline and all others stay."""

    title = "feature ablation"

    def evaluations(self, features: int) -> int:
        """The row, and one without each feature."""
        return features + 1

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """f(x) − f(x without i)."""
        masks = torch.ones(view.size + 1, view.size)
        masks[1:].fill_diagonal_(0)
        logits = view.logits(masks)
        return (logits[:, :1] - logits[:, 1:]).to(view.inputs.dense)


@dataclass(frozen=True)
class Shapley(Method):
    """Exact Shapley values (Shapley, 1953), by all 2^P coalitions of P features.

    Args:
        max_features: the largest P that is allowed; one more doubles the time.
    """

    title = "exact Shapley values"
    complete = True

    max_features: Annotated[int, Interval(ge=1, le=24)] = 12

    def evaluations(self, features: int) -> int:
        """All coalitions, or as many as pass at once; ValueError if they are too many."""
        if features > self.max_features:
            many = f"{2**features:,}" if features <= 24 else f"2^{features}"
            raise ValueError(
                f"exact Shapley values of {features} features need {many} evaluations a row; "
                f"raise explain.method.max_features ({self.max_features}), take fewer features "
                "(explain.granularity), or explain/method=kernel_shap"
            )
        return min(2**features, COALITIONS_AT_ONCE)

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """The mean over all orders of what a feature adds to those before it."""
        return weighted_logits(view, _all_coalitions(view.size))


@dataclass(frozen=True)
class ShapleySampling(Method):
    """Shapley values from random orders of the features (Castro, Gómez and Tejada, 2009).

    Each order is drawn with its reverse, whose errors tend to cancel (Mitchell et al., JMLR 2022).
    In every order the values add up to the difference, and so do their means. All rows share the
    orders.

    Args:
        permutations: how many orders are drawn, each with its reverse. Each takes 2 (P − 1)
            evaluations a row.
    """

    title = "Shapley values by sampling, {permutations} orders and their reverses"
    complete = True
    sampled = True

    permutations: Annotated[int, Ge(1)] = 64

    def evaluations(self, features: int) -> int:
        """Two for each feature and order, or as many as pass at once."""
        return min(2 + 2 * self.permutations * (features - 1), COALITIONS_AT_ONCE)

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """The mean over the drawn orders."""
        orders = _orders(self.permutations, view.size, seed)
        return weighted_logits(view, _nested_coalitions(orders))


def weighted_logits(view: MaskedModel, coalitions: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Values (B, P) that are linear in the logits: Σ over coalitions of logit · weight, in float64.

    `coalitions` are sets of features (C, P), 1 = in, and their weights (C, P), for all rows alike.
    """
    total: Tensor | float = 0.0
    for members, weights in coalitions:
        masks, weights = members.to(view.inputs.dense), weights.to(view.float64_device)
        found = [part.logits(masks) @ weights for part in view.chunks(len(masks))]
        total = total + torch.cat(found)
    assert isinstance(total, Tensor), "there is at least one coalition"
    return total.to(view.inputs.dense)


def _all_coalitions(features: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All sets of features (C, P), 1 = in, some at a time, and their weights (C, P) in float64.

    A set S counts (|S| − 1)! (P − |S|)! / P! for its members and −|S|! (P − |S| − 1)! / P! for all
    other features.
    """
    inside = [0.0, *(1 / (features * comb(features - 1, size)) for size in range(features))]
    outside = [*(-share for share in inside[1:]), 0.0]
    shares = torch.tensor([outside, inside], dtype=torch.float64)
    bits = torch.arange(features)
    for start in range(0, 2**features, COALITIONS_AT_ONCE):
        codes = torch.arange(start, min(start + COALITIONS_AT_ONCE, 2**features))
        members = (codes.unsqueeze(1) >> bits) & 1
        yield members, shares[members, members.sum(1, keepdim=True)]


def _orders(count: int, features: int, seed: int) -> Tensor:
    """(count, P): the position of each feature in each of `count` random orders."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, features, generator=generator).argsort(1)


def _nested_coalitions(orders: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The first features of (N, P) orders and of their reverses, as coalitions with their weights.

    The first k features of an order count +1 / 2N for the k-th, which has just joined, and −1 / 2N
    for the next one. The others are the first P − k of the reverse, where the same two change
    roles: they count the opposite.
    """
    count, features = orders.shape
    share = 1 / (2 * count)
    ends = share * ((orders == 0).double() + (orders == features - 1).double()).sum(0)
    yield torch.eye(2)[:, :1].expand(-1, features), torch.stack([ends, -ends])
    if features == 1:
        return  # nothing is between all and none
    sizes = torch.arange(1, features).view(1, -1, 1)
    for part in orders.unsqueeze(1).split(max(1, COALITIONS_AT_ONCE // (2 * features))):
        members = (part < sizes).flatten(0, 1)
        joins = ((part == sizes - 1).double() - (part == sizes).double()).flatten(0, 1)
        yield torch.cat([members, ~members]), share * torch.cat([joins, -joins])


def pairs(features: int) -> Tensor:
    """Both features of each of the P (P − 1) / 2 pairs, first < second: (2, pairs)."""
    return torch.triu_indices(features, features, 1)


def pair_evaluations(features: int) -> int:
    """Masked rows for each explained row and baseline: all, without i, without i and j."""
    return 1 + features + features * (features - 1) // 2


def interactions(view: MaskedModel) -> Tensor:
    """I_ij = f(x) − f(x∖i) − f(x∖j) + f(x∖ij), where x∖i is the row with feature i at its baseline.

    (B, pairs) float64, in the order of `pairs`. It is zero if f is a sum of a function without i
    and one without j: the discrete derivative of Grabisch and Roubens (Int. J. of Game Theory,
    1999) with all other features as they are. Tsang, Rambhatla and Liu detect interactions by it
    (NeurIPS 2020). An effect of three features is in each of their pairs.
    """
    count = view.size
    first, second = pairs(count)
    none = torch.zeros(1, count, dtype=torch.bool)
    alone = torch.eye(count, dtype=torch.bool)
    off = torch.cat([none, alone, alone[first] | alone[second]])
    whole, without, without_both = view.logits(~off).split([1, count, len(first)], 1)
    return whole - without[:, first] - without[:, second] + without_both


def pair_names(features: tuple[str, ...], weights: pd.DataFrame | None) -> pd.DataFrame:
    """The two features of each pair, and their `weight_norm`, where `weights` (P, P) are given."""
    first, second = pairs(len(features)).numpy()
    frame = pd.DataFrame(
        {"first": [features[i] for i in first], "second": [features[j] for j in second]}
    )
    if weights is not None:
        known = weights.reindex(index=features, columns=features).to_numpy()
        frame["weight_norm"] = known[first, second]
    return frame

"""Interactions: the part of a logit that two features have together and neither has alone."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from glassrec.explain.masking import MaskedModel


def pairs(features: int) -> Tensor:
    """Both features of each of the P (P − 1) / 2 pairs, first < second: (2, pairs)."""
    return torch.triu_indices(features, features, 1)


def evaluations(features: int) -> int:
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

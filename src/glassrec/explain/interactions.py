"""Which pairs of players act together: the part of a logit that neither of the two has alone."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from glassrec.explain.game import Game


def pairs(players: int) -> Tensor:
    """Both players of each of the P (P − 1) / 2 pairs, first < second: (2, pairs)."""
    return torch.triu_indices(players, players, 1)


def evaluations(players: int) -> int:
    """How many rows pass the model for each explained row and baseline: all, without i, without i
    and j.
    """
    return 1 + players + players * (players - 1) // 2


def interactions(game: Game) -> Tensor:
    """I_ij = f(x) − f(x∖i) − f(x∖j) + f(x∖ij), where x∖i is the row with player i at its baseline.

    It is zero for all rows if f is a sum of a function without i and one without j. This is the
    discrete derivative of Grabisch and Roubens (Int. J. of Game Theory, 1999) with all other
    players as they are; its mean over all coalitions of the others is the Shapley interaction
    index. Tsang, Rambhatla and Liu detect interactions by it (NeurIPS 2020). An effect of three
    players is in each of their pairs.

    Returns:
        (B, pairs) float64, in the order of `pairs`.
    """
    count = game.players
    first, second = pairs(count)
    nobody = torch.zeros(1, count, dtype=torch.bool)
    alone = torch.eye(count, dtype=torch.bool)
    off = torch.cat([nobody, alone, alone[first] | alone[second]])
    whole, without, without_both = game.logits(~off).split([1, count, len(first)], 1)
    return whole - without[:, first] - without[:, second] + without_both


def names(players: tuple[str, ...], weights: pd.DataFrame | None) -> pd.DataFrame:
    """The two players of each pair, and the model's own view of them where it has one.

    Args:
        players: their names.
        weights: a value for each two of some names; NaN is written for others.
    """
    first, second = pairs(len(players)).numpy()
    frame = pd.DataFrame(
        {"first": [players[i] for i in first], "second": [players[j] for j in second]}
    )
    if weights is not None:
        known = weights.reindex(index=players, columns=players).to_numpy()
        frame["weight_norm"] = known[first, second]
    return frame

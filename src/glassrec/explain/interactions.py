"""Which pairs of players act together: the part of a logit that neither of the two has alone."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from glassrec.explain.gates import Gates
from glassrec.models.base import Inputs, Recommender


def pairs(players: int) -> Tensor:
    """Both players of each of the P (P − 1) / 2 pairs, first < second: (2, pairs)."""
    return torch.triu_indices(players, players, 1)


def evaluations(players: int) -> int:
    """How many rows pass the model for each explained row and baseline: all, without i, without i
    and j.
    """
    return 1 + players + players * (players - 1) // 2


@torch.no_grad()
def interactions(
    model: Recommender,
    gates: Gates,
    inputs: Inputs,
    baseline: Inputs,
    *,
    chunk: int,
    task: int = 0,
) -> Tensor:
    """I_ij = f(x) − f(x∖i) − f(x∖j) + f(x∖ij), where x∖i is the row with player i at its baseline.

    It is zero for all rows if f is a sum of a function without i and one without j. This is the
    discrete derivative of Grabisch and Roubens (Int. J. of Game Theory, 1999) with all other
    players as they are; its mean over all coalitions of the others is the Shapley interaction
    index. Tsang, Rambhatla and Liu detect interactions by it (NeurIPS 2020). An effect of three
    players is in each of their pairs.

    Args:
        model: in evaluation mode.
        gates: the P players.
        inputs: B embedded rows.
        baseline: B rows beside them.
        chunk: how many of the B · evaluations(P) rows pass the model at once.
        task: the column of the logits.

    Returns:
        (B, pairs), in the order of `pairs`.
    """
    count = len(gates.players)
    first, second = pairs(count).to(gates.owner.device)
    alone = torch.arange(count, device=first.device)
    # Who is off in each coalition; `count` is nobody, whose gate is cut off again.
    nobody = alone.new_full((1,), count)
    off = torch.stack(
        [torch.cat([nobody, alone, first]), torch.cat([nobody, alone, second])], dim=1
    )
    every = torch.arange(inputs.rows * len(off), device=first.device)
    logits = []
    for part in every.split(chunk):
        row, coalition = part // len(off), part % len(off)
        on = inputs.dense.new_ones(len(part), count + 1).scatter_(1, off[coalition], 0)
        x, base = (Inputs(*(each[row] for each in rows)) for rows in (inputs, baseline))
        logits.append(model.score(gates.apply(on[:, :-1], x, base))[:, task])
    whole, without, without_both = (
        torch.cat(logits).view(inputs.rows, len(off)).split([1, count, len(first)], 1)
    )
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

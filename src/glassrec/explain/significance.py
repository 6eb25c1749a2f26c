"""Whether a player's effect could be chance: permutation tests, corrected for testing many.

Both tests take rows that the model was not trained on, at most about `ROWS` of them.
"""

from __future__ import annotations

from typing import Literal

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from glassrec.data.schema import TaskKind
from glassrec.explain.exchange import Exchange
from glassrec.explain.game import double

Null = Literal["labels", "features", "none"]
"""Against what a player's effect is tested: `permuted_labels`, `permuted_features`, or nothing."""

ROWS = 20_000
"""As many rows tell any effect that matters; more only take time."""

AT_ONCE = 50
"""Draws of the null that are in memory together."""


def permuted_labels(values: Tensor, labels: Tensor, draws: int, seed: int) -> pd.DataFrame:
    """Whether what a player contributes says anything about the labels.

    The statistic is |covariance| of its parts and the labels over rows. The null hypothesis is that
    the labels are independent of the parts; it is simulated by permuting the labels. A small p does
    not say that the player is the source: a model that multiplies a useless column with a useful
    one has parts of the useless one that follow the useful one. `permuted_features` sees through
    that.

    Args:
        values: (N, P) parts.
        labels: (N,) the truth.
        draws: how many permutations.
        seed: of the permutations.

    Returns:
        One row a player: p_value = (1 + permutations with at least as large a statistic) /
        (1 + draws), two-sided, and its q_value.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = double(values)
    parts = parts - parts.mean(0)
    truth = double(labels.to(values.device)).to(parts)
    truth = truth - truth.mean()
    observed = (truth @ parts).abs()
    # What is not zero by rounding alone, and ties that rounding breaks, count for the null.
    least = observed - 1e-12 * truth.norm() * double(values).norm(dim=0)
    reached = torch.zeros_like(observed)
    for start in range(0, draws, AT_ONCE):
        count = min(AT_ONCE, draws - start)
        order = torch.stack([torch.randperm(len(truth), generator=generator) for _ in range(count)])
        reached += ((truth[order.to(truth.device)] @ parts).abs() >= least).sum(0)
    return _frame((1 + reached) / (1 + draws))


def permuted_features(
    exchange: Exchange, labels: Tensor, kind: TaskKind, draws: int, seed: int
) -> pd.DataFrame:
    """Whether the model predicts worse without a player's own value.

    The statistic is the mean increase of the loss (cross-entropy of a click, squared error of a
    rating) where two rows have exchanged the player's value. The null hypothesis is that the player
    is independent of the label and of all other players. Then a pair of rows is as likely as the
    pair exchanged, so that the sign of its increase is a fair coin, and pairs are independent:
    flipping signs gives the exact distribution under the null, whatever the model is. A player that
    is correlated with others can be found though the label does not need it.

    Args:
        exchange: pairs of B rows, and the logits with each player exchanged.
        labels: (B,) the truth of the rows.
        kind: of the task.
        draws: how many times all signs are drawn.
        seed: of the signs.

    Returns:
        One row a player: p_value, one-sided, and its q_value.

    Raises:
        ValueError: a retrieval's loss is one among many items, which a row alone does not have.
    """
    if kind == "retrieval":
        raise ValueError(
            "a retrieval has no loss of a single row; take significance=labels or none"
        )
    truth = labels.cpu()[exchange.rows.cpu()].to(exchange.logits)
    as_is = _loss(exchange.logits, truth, kind).unsqueeze(2)
    exchanged = _loss(exchange.exchanged, truth.unsqueeze(2), kind)
    return _sign_flips((exchanged - as_is).sum(0), draws, seed)


def benjamini_hochberg(p: Tensor) -> Tensor:
    """The q-values (P,) of p-values (P,): the least false discovery rate at which each is found.

    Benjamini and Hochberg, J. R. Statist. Soc. B, 1995. Of the players with q ≤ α, at most a share
    α is expected to have no effect.
    """
    order = p.argsort(descending=True)
    falling = p[order] * len(p) / torch.arange(len(p), 0, -1, device=p.device)
    q = torch.empty_like(p)
    q[order] = falling.cummin(0).values.clamp_max(1)
    return q


def _sign_flips(increase: Tensor, draws: int, seed: int) -> pd.DataFrame:
    """Whether the mean of increases (H, P) is larger than with random signs."""
    generator = torch.Generator().manual_seed(seed)
    least = increase.sum(0) - 1e-12 * increase.abs().sum(0)
    reached = torch.zeros_like(least)
    for start in range(0, draws, AT_ONCE):
        shape = (min(AT_ONCE, draws - start), len(increase))
        signs = torch.randint(2, shape, generator=generator).mul_(2).sub_(1).to(increase)
        reached += (signs @ increase >= least).sum(0)
    return _frame((1 + reached) / (1 + draws))


def _loss(logits: Tensor, truth: Tensor, kind: TaskKind) -> Tensor:
    truth = truth.to(logits).expand_as(logits)
    if kind == "click":
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (logits - truth) ** 2


def _frame(p: Tensor) -> pd.DataFrame:
    columns = {"p_value": p, "q_value": benjamini_hochberg(p)}
    return pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})

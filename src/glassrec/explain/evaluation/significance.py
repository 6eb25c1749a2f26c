"""Whether a feature's effect could be chance, and how well a ranking finds effects that are known.

Permutation tests, corrected for testing many, take rows that the model was not trained on.

Generated data have a truth: a sum of effects of single columns and of pairs, in logits, each with
mean zero and independent of the others. Three rankings are scored:

- a feature's attribution, against the deviation of the exact Shapley value of the true logit, f_i +
  ½ Σ_j f_ij: √(m_i² + ¼ Σ_j s_ij²), m and s being the strengths;
- the strength of a main effect alone, against m_i (`PairedSwap.main_effects`);
- the size of a pair's interaction, against s_ij.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from glassrec.data.dataset import GroundTruth
from glassrec.data.schema import TaskKind
from glassrec.explain.masking import MaskedModel, to_float64
from glassrec.models.base import Inputs

ROWS = 20_000
"""Rows that suffice to find any effect that matters."""

DRAWS_AT_ONCE = 50
"""Draws of the null that are in memory together."""


@dataclass(frozen=True)
class PairedSwap:
    """H random pairs of rows that swap the value of one feature (permutation importance).

    No baseline is chosen: a swapped value is one of the data. Each row is in one pair; of an odd
    number one is left out. Swapping a whole history keeps the number of steps of each row.
    """

    rows: Tensor
    """(2, H) int64: the pairs"""
    logits: Tensor
    """(2, H) float64: of the rows as they are"""
    swapped: Tensor
    """(2, H, P) float64: of the rows with the other's value of one feature"""

    @staticmethod
    def draw(view: MaskedModel, seed: int) -> PairedSwap:
        """Pairs of a view's rows, P + 1 logits a row; ValueError if there is one row only."""
        if view.rows < 2:
            raise ValueError(f"two rows are needed to swap values, and there is {view.rows}")
        half = view.rows // 2
        order = torch.randperm(view.rows, generator=torch.Generator().manual_seed(seed))
        order = order[: 2 * half].to(view.inputs.dense.device)
        inputs = Inputs(*(part[order] for part in view.inputs))
        others = Inputs(*(part.roll(half, 0) for part in inputs)).expand_to(inputs)
        pairs = replace(view, inputs=inputs, baseline=others, index=order.cpu())
        found = pairs.logits(torch.cat([torch.ones(1, view.size), 1 - torch.eye(view.size)]))
        return PairedSwap(
            order.view(2, half), found[:, 0].view(2, half), found[:, 1:].unflatten(0, (2, half))
        )

    def main_effects(self) -> pd.DataFrame:
        """How strongly each feature moves the logit by itself, whatever the others are.

        Its main effect is E[f | its value], and the strength its standard deviation over rows, in
        logits: the root of Sobol's first-order variance (Sobol, 1993), estimated by Cov(f(b), f(a
        with b's value) − f(a)) over pairs of rows a, b (Saltelli et al., Computer Physics
        Communications 2010). Columns should be independent of each other.

        Returns:
            One row for each feature: strength, strength_low, strength_high (95 %, normal on the
                variance).
        """
        other = (self.logits - self.logits.mean()).flip(0).unsqueeze(2)
        terms = (other * (self.swapped - self.logits.unsqueeze(2))).mean(0)
        variance = terms.mean(0)
        error = 1.96 * terms.std(0) / len(terms) ** 0.5
        ends = {
            "strength": variance,
            "strength_low": variance - error,
            "strength_high": variance + error,
        }
        return pd.DataFrame({k: v.clamp_min(0).sqrt().cpu().numpy() for k, v in ends.items()})


def permuted_labels(values: Tensor, labels: Tensor, draws: int, seed: int) -> pd.DataFrame:
    """Whether the labels (N,) depend on a feature's attributions (N, P).

    The statistic is |covariance| over rows; its null distribution comes from permuting the labels.
    A small p does not say that the feature is the source: in a model that multiplies a useless
    column with a useful one, the attributions of both follow the labels. `permuted_features` avoids
    that.

    Returns:
        One row for each feature: p_value = (1 + permutations with at least as large a statistic) /
            (1 + draws), two-sided, and its q_value.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = to_float64(values)
    parts = parts - parts.mean(0)
    truth = to_float64(labels.to(values.device)).to(parts)
    truth = truth - truth.mean()
    observed = (truth @ parts).abs()
    # Values and ties that are not exact by rounding alone count for the null.
    least = observed - 1e-12 * truth.norm() * to_float64(values).norm(dim=0)
    reached = torch.zeros_like(observed)
    for start in range(0, draws, DRAWS_AT_ONCE):
        count = min(DRAWS_AT_ONCE, draws - start)
        order = torch.stack([torch.randperm(len(truth), generator=generator) for _ in range(count)])
        reached += ((truth[order.to(truth.device)] @ parts).abs() >= least).sum(0)
    return _frame((1 + reached) / (1 + draws))


def permuted_features(
    swap: PairedSwap, labels: Tensor, kind: TaskKind, draws: int, seed: int
) -> pd.DataFrame:
    """Whether the model predicts worse without a feature's own value.

    The statistic is the mean increase of the loss (cross-entropy of a click, squared error of a
    rating) where two rows have swapped the feature's value; `labels` (B,) are the true values.
    Under the null, the feature is independent of the label and of all other features. Then the sign
    of a pair's increase is a fair coin, and flipping signs gives the exact distribution, whatever
    the model is. A feature that is correlated with others can be found though the label does not
    need it.

    Returns:
        One row for each feature: p_value, one-sided, and its q_value.

    Raises:
        ValueError: a retrieval's loss is one among many items, which a row alone does not have.
    """
    if kind == "retrieval":
        raise ValueError(
            "a retrieval has no loss of a single row; take significance=labels or none"
        )
    truth = labels.cpu()[swap.rows.cpu()].to(swap.logits)
    as_is = _loss(swap.logits, truth, kind).unsqueeze(2)
    swapped = _loss(swap.swapped, truth.unsqueeze(2), kind)
    return _sign_flips((swapped - as_is).sum(0), draws, seed)


def benjamini_hochberg(p: Tensor) -> Tensor:
    """The q-values (P,) of p-values (P,): the smallest false discovery rate at which each is found.

    Benjamini and Hochberg, J. R. Statist. Soc. B, 1995. Of the features with q ≤ α, at most a share
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
    for start in range(0, draws, DRAWS_AT_ONCE):
        shape = (min(DRAWS_AT_ONCE, draws - start), len(increase))
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


@dataclass(frozen=True)
class RankingMetrics:
    """The metrics of one ranking against true strengths."""

    precision: float
    """of the k that rank first, the share with an effect; k is their true number"""
    correlation: float
    """Somers' D, the rank correlation with the true strengths: of all two of different strength,
    the share in the right order less that in the wrong one. Inactive ones have strength 0, and
    their order does not count: 4 pairs among 78 right on top would have a Spearman correlation of
    .38 at most"""


def true_importance(truth: GroundTruth, features: Sequence[str]) -> pd.Series:
    """The deviation of each feature's exact Shapley value of the true logit, 0 for inactive ones.

    Features are whole columns; one that the truth does not mention is inactive.
    """
    variance = {name: truth.main.get(name, 0.0) ** 2 for name in features}
    for pair, strength in truth.pairs.items():
        for name in variance.keys() & set(pair):
            variance[name] += strength**2 / 4
    return pd.Series(variance, dtype=float) ** 0.5


def score_features(importance: pd.Series, truth: GroundTruth) -> RankingMetrics:
    """Score attributions, by feature: those with any effect belong above the inactive ones."""
    return score(importance, true_importance(truth, list(importance.index)))


def score_main(strength: pd.Series, truth: GroundTruth) -> RankingMetrics:
    """Score main effects, by feature: those with a main effect belong above all others."""
    return score(strength, pd.Series({name: truth.main.get(name, 0.0) for name in strength.index}))


def score_pairs(importance: pd.Series, truth: GroundTruth) -> RankingMetrics:
    """Score interactions, by (first, second) in either order: true pairs belong on top."""
    true = {frozenset(pair): strength for pair, strength in truth.pairs.items()}
    strengths = [true.get(frozenset(pair), 0.0) for pair in importance.index]
    return score(importance, pd.Series(strengths, importance.index))


def score(found: pd.Series, true: pd.Series) -> RankingMetrics:
    """Score values against true strengths of the same index; NaN where nothing has an effect.

    Precision under ties is the mean over their random order.
    """
    values, strengths = found.to_numpy(float), true.reindex(found.index).to_numpy(float)
    active = strengths > 0
    k = int(active.sum())
    if not k:
        return RankingMetrics(nan, nan)
    bar = np.sort(values)[-k]
    above, at = values > bar, values == bar
    hits = active[above].sum() + active[at].mean() * (k - above.sum())
    weaker = strengths[active, None] > strengths
    in_order = np.sign(values[active, None] - values)
    return RankingMetrics(float(hits / k), float(in_order[weaker].mean()) if weaker.any() else nan)

"""How well a ranking finds known effects, as generated data have them.

The truth is a sum of effects of single columns and of pairs, in logits, each with mean zero and
independent of the others. Three rankings are scored:

- a feature's attribution, against the deviation of the exact Shapley value of the true logit, f_i +
  ½ Σ_j f_ij: √(m_i² + ¼ Σ_j s_ij²), m and s being the strengths;
- the strength of a main effect alone, against m_i (`PairedSwap.main_effects`);
- the size of a pair's interaction, against s_ij.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import pandas as pd

from glassrec.data.dataset import GroundTruth


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

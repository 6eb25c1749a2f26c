"""How good a model's logits are: row by row, and, where the split has them, on ranking lists.

All of it is computed in float64 on whole tensors; ties between equal logits never help nor hurt.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

NORMAL_975 = 1.959963984540054
"""The 97.5 % point of the normal distribution: both sides together leave out 5 %."""


def clicks(
    score: Tensor, target: Tensor, query: Tensor | None = None, k: int = 10
) -> dict[str, float]:
    """The metrics of logits, by name.

    Always: `auroc` with its 95 % confidence interval `auroc_low` to `auroc_high`. Without ranking
    lists `log_loss` in nats, `normalized_entropy`, `accuracy` at a probability of .5, `calibration`
    and `ece`. With them `hr@k` and `ndcg@k` instead: candidates are sampled, so their share of
    clicks, which the others depend on, says nothing. Where all rows have one label, `auroc`, its
    interval and `normalized_entropy` are not defined and are nan; where all are 0, `calibration`,
    too.

    Args:
        score: (N,) float64 logits, all finite.
        target: (N,) 0 or 1.
        query: (N,) the ranking list of each row, non-decreasing; None where there are none.
        k: how many places of a list count.

    Raises:
        ValueError: a label is neither 0 nor 1, or a ranking list does not hold exactly one row of
            target 1.
    """
    _check(target)
    label = target == 1
    area = dict(zip(("auroc", "auroc_low", "auroc_high"), auroc(score, label), strict=True))
    if query is None:
        return area | probabilities(score, label)
    lists = ranking(score, label, query, k)
    return area | {name: values.mean().item() for name, values in lists.items()}


def probabilities(score: Tensor, label: Tensor) -> dict[str, float]:
    """How right probabilities are; `score` (N,) float64 logits, `label` (N,) bool."""
    target = label.double()
    log_loss = binary_cross_entropy_with_logits(score, target).item()
    rate = target.mean()
    entropy = (torch.special.entr(rate) + torch.special.entr(1 - rate)).item()
    return {
        "log_loss": log_loss,
        # He et al. 2014: 1 is as good as always predicting the rows' own click rate.
        "normalized_entropy": log_loss / entropy if entropy else math.nan,
        "accuracy": ((score >= 0) == label).double().mean().item(),
        # He et al. 2014: 1 is as many clicks as there are, 2 is twice as many.
        "calibration": (score.sigmoid().mean() / rate).item() if rate else math.nan,
        "ece": calibration_error(score, label),
    }


def auroc(score: Tensor, label: Tensor) -> tuple[float, float, float]:
    """The area under the ROC curve and its 95 % confidence interval (low, high).

    The variance is DeLong's, by the midranks of Sun & Xu 2014, "Fast implementation of DeLong's
    algorithm"; the interval is symmetric in logits, so that it stays within [0, 1]. One row of a
    class leaves the variance unknown, and the interval is [0, 1]; where the classes are separated
    without fault the variance is 0, and the interval is that one point.
    """
    positive, negative = score[label], score[~label]
    m, n = len(positive), len(negative)
    if not m or not n:
        return math.nan, math.nan, math.nan
    rank = _midranks(torch.cat([positive, negative]))
    below = (rank[:m] - _midranks(positive)) / n  # a positive's share of negatives below it
    above = 1 - (rank[m:] - _midranks(negative)) / m  # a negative's share of positives above it
    area = below.mean().item()
    if m == 1 or n == 1:
        return area, 0.0, 1.0
    error = (below.var() / m + above.var() / n).sqrt().item()
    return area, *_interval(area, error)


def calibration_error(score: Tensor, label: Tensor, bins: int = 15) -> float:
    """The expected calibration error: how far probabilities are from click rates, on average.

    Rows are divided by their probability into `bins` of equally many (Nixon et al. 2019; Guo et
    al. 2017 and Naeini et al. 2015 took bins of equal width, which leaves most of them empty where
    clicks are rare). It is the mean, over rows, of |mean probability − click rate| of the row's
    bin. Rows of equal probability each count with the click rate of them all, so that it is no
    matter which bin they fall into. `score` (N,) float64 logits, `label` (N,) bool.
    """
    values, inverse, counts = torch.unique(score, return_inverse=True, return_counts=True)
    clicked = torch.zeros_like(values).index_add(0, inverse, label.double()) / counts
    missed = (values.sigmoid() - clicked).repeat_interleave(counts)
    return sum(abs(part.sum().item()) for part in missed.tensor_split(bins)) / len(score)


def ranking(score: Tensor, label: Tensor, query: Tensor, k: int = 10) -> dict[str, Tensor]:
    """HR@k and NDCG@k of each of L lists (L,), in expectation over random order among ties.

    `score` (N,), `label` (N,) bool, `query` (N,) non-decreasing. The positive of a list
    stands, with equal chance, at any place from `higher` to `higher + ties`, counted from 0.
    """
    _, owner = torch.unique_consecutive(query, return_inverse=True)
    lists = int(owner[-1]) + 1
    if not torch.equal(owner[label], torch.arange(lists)):
        raise ValueError(_lists_message(query, owner, label, lists))
    best = score[label][owner]
    higher = torch.bincount(owner[score > best], minlength=lists)
    ties = torch.bincount(owner[(score == best) & ~label], minlength=lists)
    gain = 1 / torch.arange(2, k + 2, dtype=torch.float64).log2()
    total = torch.cat([gain.new_zeros(1), gain.cumsum(0)])  # of the first 0, 1, ... k places
    first, last = higher.clamp(max=k), (higher + ties + 1).clamp(max=k)
    places = (ties + 1).double()
    return {
        f"hr@{k}": (last - first) / places,
        f"ndcg@{k}": (total[last] - total[first]) / places,
    }


def _midranks(values: Tensor) -> Tensor:
    """The rank of each value among `values` (N,), from 1; equal values share their mean rank."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0)
    return (last - (counts - 1) / 2).double()[inverse]


def _interval(area: float, error: float) -> tuple[float, float]:
    if error == 0:
        return area, area
    centre = math.log(area / (1 - area))
    reach = NORMAL_975 * error / (area * (1 - area))
    low, high = torch.tensor([centre - reach, centre + reach], dtype=torch.float64).sigmoid()
    return low.item(), high.item()


def _check(target: Tensor) -> None:
    bad = ((target != 0) & (target != 1)).nonzero()
    if len(bad):
        first = int(bad[0])
        raise ValueError(f"a label must be 0 or 1; found {target[first]} at row {first}")


def _lists_message(query: Tensor, owner: Tensor, label: Tensor, lists: int) -> str:
    positives = torch.bincount(owner[label], minlength=lists)
    wrong = int((positives != 1).nonzero()[0])
    name = int(query[owner == wrong][0])
    return (
        f"each ranking list needs exactly one row of target 1; list {name} has {positives[wrong]}"
    )

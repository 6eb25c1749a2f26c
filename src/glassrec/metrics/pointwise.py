"""Metrics of clicks: row by row, and on ranking lists, where ties neither help nor hurt.

All of it is computed in float64 on whole tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

NORMAL_975 = 1.959963984540054
"""The 97.5 % point of the normal distribution: both sides together leave out 5 %."""

Statistic = Callable[[Tensor], Tensor]
"""Of weights (D, U) of U rows, lists or users, a number for each draw (D,); nan if undefined."""


def click_metrics(
    score: Tensor, target: Tensor, query: Tensor | None = None, k: int = 10
) -> dict[str, float]:
    """The metrics of logits (N,) float64, by name; `target` (N,) is 0 or 1.

    Always: `auroc` with its 95 % confidence interval `auroc_low` to `auroc_high`. Without ranking
    lists also those of `probability_metrics`; with them, given by `query` (N,), non-decreasing,
    `hr@k` and `ndcg@k` instead: candidates are sampled, so their click rate means nothing.

    Raises:
        ValueError: a label is neither 0 nor 1, or a ranking list does not hold exactly one row of
            target 1.
    """
    bad = ((target != 0) & (target != 1)).nonzero()
    if len(bad):
        first = int(bad[0])
        raise ValueError(f"a label must be 0 or 1; found {target[first]} at row {first}")
    label = target == 1
    names = ("auroc", "auroc_low", "auroc_high")
    area = dict(zip(names, AUROC(score, label).with_interval(), strict=True))
    if query is None:
        return area | probability_metrics(score, label)
    lists = ranking_metrics(score, label, query, k)
    return area | {name: values.mean().item() for name, values in lists.items()}


def probability_metrics(score: Tensor, label: Tensor) -> dict[str, float]:
    """Metrics of the probabilities of `score` (N,) float64 logits; `label` (N,) bool.

    `log_loss` in nats, `normalized_entropy` (1 is as good as always predicting the rows' own click
    rate), `accuracy` at a probability of .5, `calibration` (2 is twice as many clicks predicted as
    there are; both are of He et al. 2014), and `ece`. Undefined ones are nan: `normalized_entropy`
    where all rows have one label, and `calibration` where all are 0.
    """
    target = label.double()
    log_loss = F.binary_cross_entropy_with_logits(score, target).item()
    rate = target.mean()
    entropy = (torch.special.entr(rate) + torch.special.entr(1 - rate)).item()
    return {
        "log_loss": log_loss,
        "normalized_entropy": log_loss / entropy if entropy else math.nan,
        "accuracy": ((score >= 0) == label).double().mean().item(),
        "calibration": (score.sigmoid().mean() / rate).item() if rate else math.nan,
        "ece": calibration_error(score, label),
    }


class AUROC:
    """The area under the ROC curve of `score` (N,), `label` (N,) bool.

    It is the share of pairs of a positive and a negative row in which the positive one is higher;
    ties count half.
    """

    def __init__(self, score: Tensor, label: Tensor) -> None:
        self.score = score
        self.positive, self.negative = label.nonzero().flatten(), (~label).nonzero().flatten()

    def with_interval(self) -> tuple[float, float, float]:
        """The area and its 95 % confidence interval (low, high); nan where all have one label.

        The variance is DeLong's (Sun & Xu 2014); the interval is symmetric in logits, so that it
        stays within [0, 1]. One row of a class leaves the variance unknown, and the interval is [0,
        1]; where the classes are separated without fault the interval is that one point.
        """
        positive, negative = self.score[self.positive], self.score[self.negative]
        m, n = len(positive), len(negative)
        if not m or not n:
            return math.nan, math.nan, math.nan
        below = _count_below(positive, negative) / n
        above = 1 - _count_below(negative, positive) / m
        area = below.mean().item()
        if m == 1 or n == 1:
            return area, 0.0, 1.0
        error = (below.var() / m + above.var() / n).sqrt().item()
        return area, *_interval(area, error)

    def weighted(self) -> Statistic:
        """The area of rows with weights: a cumulative sum over the sorted negatives."""
        negative = self.negative[self.score[self.negative].argsort()]
        first, last = _search(self.score[self.positive], self.score[negative])
        places = [first] if torch.equal(first, last) else [first, last]  # ties are rare, and cost

        def area(weights: Tensor) -> Tensor:
            below = F.pad(weights.index_select(1, negative).cumsum(1), (1, 0))
            own = weights.index_select(1, self.positive)
            won = [(own * below.index_select(1, place)).sum(1) for place in places]
            return sum(won, torch.zeros(())) / len(won) / (own.sum(1) * below[:, -1])

        return area


def _search(values: Tensor, ordered: Tensor) -> tuple[Tensor, Tensor]:
    return torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)


def _count_below(values: Tensor, others: Tensor) -> Tensor:
    """(N,) float64: how many of the others are below each value; equal ones count half."""
    first, last = _search(values, others.sort().values)
    return (first + last).double() / 2


def _interval(area: float, error: float) -> tuple[float, float]:
    if error == 0:
        return area, area
    centre = math.log(area / (1 - area))
    reach = NORMAL_975 * error / (area * (1 - area))
    low, high = torch.tensor([centre - reach, centre + reach], dtype=torch.float64).sigmoid()
    return low.item(), high.item()


def calibration_error(score: Tensor, label: Tensor, bins: int = 15) -> float:
    """The expected calibration error: the mean |mean probability − click rate| of rows' bins.

    `score` (N,) are float64 logits, `label` (N,) bool. Rows are divided by their probability into
    `bins` of equally many (Nixon et al. 2019). Rows of equal probability each count with the click
    rate of them all, so that it is no matter which bin they fall into.
    """
    values, inverse, counts = torch.unique(score, return_inverse=True, return_counts=True)
    clicked = torch.zeros_like(values).index_add(0, inverse, label.double()) / counts
    missed = (values.sigmoid() - clicked).repeat_interleave(counts)
    return sum(abs(part.sum().item()) for part in missed.tensor_split(bins)) / len(score)


def ranking_metrics(score: Tensor, label: Tensor, query: Tensor, k: int = 10) -> dict[str, Tensor]:
    """HR@k and NDCG@k of each of L lists (L,), in expectation over random order among ties.

    `score` (N,), `label` (N,) bool, `query` (N,) non-decreasing.
    """
    return place_metrics(*held_out_places(score, label, query), [k])


def held_out_places(score: Tensor, label: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """(L,) the rows with a higher score than the positive of each list, and (L,) its ties."""
    _, owner = torch.unique_consecutive(query, return_inverse=True)
    lists = int(owner[-1]) + 1
    if not torch.equal(owner[label], torch.arange(lists)):
        positives = torch.bincount(owner[label], minlength=lists)
        wrong = int((positives != 1).nonzero()[0])
        raise ValueError(
            f"each ranking list needs exactly one row of target 1; list "
            f"{int(query[owner == wrong][0])} has {positives[wrong]}"
        )
    best = score[label][owner]
    higher = torch.bincount(owner[score > best], minlength=lists)
    return higher, torch.bincount(owner[(score == best) & ~label], minlength=lists)


def place_metrics(
    higher: Tensor, ties: Tensor, ks: Iterable[int], *, mrr: bool = False
) -> dict[str, Tensor]:
    """HR@k and NDCG@k, and MRR, of positives (L,), in expectation over random order among ties.

    A positive has equal chances of any place from `higher` to `higher + ties`, counted from 0.
    """
    found, places, end = {}, (ties + 1).double(), higher + ties + 1
    for k in ks:
        gain = 1 / torch.arange(2, k + 2, dtype=torch.float64).log2()
        total = F.pad(gain.cumsum(0), (1, 0))  # of the first 0, 1, ... k places
        first, last = higher.clamp(max=k), end.clamp(max=k)
        found[f"hr@{k}"] = (last - first) / places
        found[f"ndcg@{k}"] = (total[last] - total[first]) / places
    if mrr:
        total = F.pad((1 / torch.arange(1, int(end.max()) + 1).double()).cumsum(0), (1, 0))
        found["mrr"] = (total[end] - total[higher]) / places
    return found


def rating_metrics(score: Tensor, target: Tensor) -> dict[str, float]:
    """`rmse`, `mae` and `bias` of estimates (N,) of ratings (N,), in the unit of the ratings.

    `bias` is the mean error: above 0, estimates are too high.
    """
    error = score - target
    return {
        "rmse": error.square().mean().sqrt().item(),
        "mae": error.abs().mean().item(),
        "bias": error.mean().item(),
    }

"""Metrics of the rows of each user: GAUC, MRR and MAP, in expectation over random order of ties."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from glassrec.metrics.bootstrap import bootstrap, mean


def grouped_metrics(
    score: Tensor, label: Tensor, owner: Tensor, counts: Tensor | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """`gauc`, `mrr` and `map` of L lists, each as values and weights (L,); NaN where undefined.

    GAUC is the area under the ROC curve of each list with both labels, weighted by its rows (Zhou
    et al. 2018, "Deep Interest Network"). MRR is the mean of 1 / place of a list's first positive,
    MAP that of the precision at each positive, with ties after McSherry and Najork 2008.

    Args:
        score: (N,) float64.
        label: (N,) bool.
        owner: (N,) the list of each row, below L.
        counts: (L,) positives of each list, with those that are in no row; by default those of the
            rows.
    """
    order = score.argsort(descending=True)
    order = order[owner[order].argsort(stable=True)]
    score, label, owner = score[order], label[order].double(), owner[order]
    there = torch.zeros(int(owner.max()) + 1 if counts is None else len(counts)).double()
    rows, found = (there.index_add(0, owner, x) for x in (torch.ones_like(label), label))
    start = F.pad(rows.cumsum(0), (1, 0))[:-1][owner]  # of the row's list
    passed = F.pad(label.cumsum(0), (1, 0))  # positives in rows before
    new = (score.diff() != 0) | (owner.diff() != 0)
    tie = F.pad(new.cumsum(0), (1, 0))
    size = tie.bincount()
    first = (size.cumsum(0) - size)[tie]
    n, r = size[tie].double(), there.new_zeros(len(size)).index_add(0, tie, label)[tie]
    above, place = first - start, torch.arange(len(score)) - first + 1  # place among the ties
    hits = passed[first] - passed[start.long()]
    among = 1 + hits + (place - 1) * (r - 1) / (n - 1).clamp(min=1)
    precision = r / n * among / (above + place)
    leads = (hits == 0) & (r > 0) & (place <= n - r + 1)
    chance = torch.where(leads, _choose(n - place, r - 1) - _choose(n, r), -torch.inf).exp()
    wins = label * ((rows - found)[owner] - (above - hits) - (n - r) / 2)
    area, average, inverse = (
        there.index_add(0, owner, each) for each in (wins, precision, chance / (above + place))
    )
    total = found if counts is None else counts.double()
    pairs = found * (rows - found)
    return {
        "gauc": (area / pairs, rows),
        "mrr": (torch.where(total > 0, inverse, torch.nan), torch.ones_like(rows)),
        "map": (average / total, torch.ones_like(rows)),
    }


def mean_metrics(score: Tensor, label: Tensor, owner: Tensor) -> dict[str, float]:
    """The means of `grouped_metrics` with their 95 % intervals by a bootstrap over lists."""
    found: dict[str, float] = {}
    for name, (values, weights) in grouped_metrics(score, label, owner).items():
        known = ~values.isnan()
        if known.any():
            sums, weights = (values * weights)[known], weights[known]
            three = bootstrap({name: mean(sums, weights)}, len(sums), seed=0)[name]
            found |= dict(zip((name, f"{name}_low", f"{name}_high"), three, strict=True))
    return found


def _choose(n: Tensor, k: Tensor) -> Tensor:
    """The logarithm of the binomial coefficient; nothing is raised where it is of no use."""
    return torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)

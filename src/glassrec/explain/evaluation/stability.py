"""How much attributions change with another seed, with other inputs, and with another model.

They should not with the first, little with the second, and entirely with the third.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy

import torch
from scipy.stats import rankdata
from torch import Tensor

from glassrec.explain.evaluation.faithfulness import Sample
from glassrec.explain.masking import to_float64
from glassrec.explain.methods import Method
from glassrec.models.base import Inputs, Recommender


def rank_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of each two rows of (B, P): (B,) float64.

    Equal values share their mean rank. NaN where all values of a row are equal.
    """
    found = (torch.from_numpy(rankdata(each.detach().cpu(), axis=1)) for each in (first, second))
    a, b = (ranks - ranks.mean(1, keepdim=True) for ranks in found)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def agreement(method: Method, sample: Sample, seeds: tuple[int, int]) -> float:
    """The mean over rows of the rank correlation of two seeds' attributions; NaN without a draw.

    Far below 1, the ranking of a row's features is mostly chance.
    """
    if not method.draws(sample.view.size):
        return float("nan")
    first, second = (sample.attributions(method, seed) for seed in seeds)
    return rank_agreement(first, second).nanmean().item()


def nearby(inputs: Inputs, radius: float, count: int, seed: int) -> Iterator[Inputs]:
    """Random inputs near the B rows, `count` times.

    Each value is moved uniformly by at most `radius` of its own standard deviation over the rows.
    Padding stays.
    """
    generator = torch.Generator().manual_seed(seed)
    *leaves, steps = inputs
    reach = [radius * (leaf - leaf.mean(0)).square().mean(0).sqrt() for leaf in leaves]
    for _ in range(count):
        dense, fields, history = (
            leaf + far * (2 * torch.rand(leaf.shape, generator=generator).to(leaf) - 1)
            for leaf, far in zip(leaves, reach, strict=True)
        )
        yield Inputs(dense, fields, history * steps.unsqueeze(2), steps)


def sensitivity(method: Method, sample: Sample, near: Iterable[Inputs], seed: int) -> float:
    """The change of attributions φ with the inputs (max-sensitivity, Yeh et al., NeurIPS 2019).

    The mean over rows of the largest ‖φ(near inputs) − φ‖, over the mean ‖φ‖: 0.1 says that such a
    small step can change attributions by a tenth of their size. `captum.metrics.sensitivity_max` is
    a mean of ratios, in which rows with hardly any attribution outweigh all others. NaN if all are
    zero.
    """
    values = to_float64(sample.attributions(method, seed))
    others = (to_float64(sample.with_inputs(each).attributions(method, seed)) for each in near)
    moves = [(other - values).norm(dim=1) for other in others]
    return (torch.stack(moves).amax(0).mean() / values.norm(dim=1).mean()).item()


def randomize_weights(model: Recommender, seed: int) -> Recommender:
    """A copy of the model with randomised weights: each parameter is shuffled, and keeps its scale.

    The embedding table is shared, as `score` does not read it. Modules go output side first.
    """
    copy = deepcopy(model, {id(model.table): model.table})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in reversed([*copy.modules()]):
            for parameter in module.parameters(recurse=False) if module is not copy.table else ():
                order = torch.randperm(parameter.numel(), generator=generator)
                shuffled = parameter.flatten()[order.to(parameter.device)]
                parameter.copy_(shuffled.view_as(parameter))
    return copy


def randomisation(method: Method, sample: Sample, models: int, seed: int) -> float:
    """Mean |rank correlation| with randomised models' attributions (Adebayo et al., NeurIPS 2018).

    Near 1, the method depends on the inputs and not on the model. Chance alone gives about
    √(2 / (π (P − 1))) for P features: 0.25 for 11. NaN if the model scores without weights.
    """
    values, model = sample.attributions(method, seed), sample.view.model
    found = []
    for draw in range(models):
        other = sample.with_model(randomize_weights(model, seed + draw))
        if not torch.equal(other.difference, sample.difference):
            correlations = rank_agreement(values, other.attributions(method, seed)).abs()
            found.append(correlations.nanmean().item())
    return torch.tensor(found, dtype=torch.double).nanmean().item()

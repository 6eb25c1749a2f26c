"""How much the parts change: with another seed, with other inputs, and with another model.

They should not with the first, little with the second, and entirely with the third.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from copy import deepcopy

import pandas as pd
import torch
from torch import Tensor

from glassrec.explain.game import double
from glassrec.explain.methods import Method
from glassrec.explain.sample import Sample
from glassrec.models.base import Inputs, Recommender


def rank_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of each two rows of (B, P): (B,) float64.

    Equal values share their mean rank. NaN where all values of a row are equal.
    """
    a, b = (ranks - ranks.mean(1, keepdim=True) for ranks in (_ranks(first), _ranks(second)))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def _ranks(values: Tensor) -> Tensor:
    """(B, P) float64: the rank of each value in its row, from 1; equal values share their mean."""
    values = double(values).contiguous()
    ascending = values.sort(1).values
    below = torch.searchsorted(ascending, values)
    not_above = torch.searchsorted(ascending, values, right=True)
    return (below + not_above + 1).double() / 2


def agreement(method: Method, sample: Sample, seeds: tuple[int, int]) -> float:
    """The mean over rows of the rank correlation of the parts of two seeds; NaN if none is drawn.

    Far below 1, the ranking of a row's players is mostly chance.
    """
    if not method.draws(sample.game.players):
        return float("nan")
    first, second = (sample.parts(method, seed) for seed in seeds)
    return rank_agreement(first, second).nanmean().item()


def nearby(inputs: Inputs, radius: float, count: int, seed: int) -> Iterator[Inputs]:
    """Random inputs beside the B rows, `count` times.

    Each number is moved uniformly by at most `radius` of its own standard deviation over the rows.
    What all rows have in common stays, and so does padding.
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
    """How far the parts move when the inputs do (max-sensitivity, Yeh et al., NeurIPS 2019).

    The mean over rows of the largest ‖parts of near inputs − parts‖, over the mean ‖parts‖: 0.1
    says that such a small step can change the parts by a tenth of their size. The ratio is one of
    means, as rows with hardly any parts would otherwise outweigh all others. The draws of a sampled
    method stay the same. NaN if all parts are zero.
    """
    parts = double(sample.parts(method, seed))
    moves = [
        (double(sample.moved(inputs).parts(method, seed)) - parts).norm(dim=1) for inputs in near
    ]
    return (torch.stack(moves).amax(0).mean() / parts.norm(dim=1).mean()).item()


def drawn_anew(
    model: Recommender, seed: int, modules: Collection[str] | None = None
) -> Recommender:
    """A copy of the model that has learnt nothing: its weights are shuffled, each in itself.

    That keeps their scale. The table is not copied, as `score` does not read it.

    Args:
        model: stays as it is.
        seed: of the shuffling; the same for a module whichever others are shuffled.
        modules: shuffles these only; all if None.
    """
    copy = deepcopy(model, {id(model.table): model.table})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in scoring_modules(model):
            for parameter in copy.get_submodule(name).parameters(recurse=False):
                order = torch.randperm(parameter.numel(), generator=generator)
                if modules is None or name in modules:
                    shuffled = parameter.flatten()[order.to(parameter.device)]
                    parameter.copy_(shuffled.view_as(parameter))
    return copy


def scoring_modules(model: Recommender) -> list[str]:
    """The modules that have weights of their own, but for the table, output side first."""
    return [
        name
        for name, module in reversed([*model.named_modules()])
        if module is not model.table and [*module.parameters(recurse=False)]
    ]


def randomisation(method: Method, sample: Sample, models: int, seed: int) -> float:
    """Mean |rank correlation| with the parts of untrained models (Adebayo et al., NeurIPS 2018).

    Near 1, the method looks at the inputs and not at the model. Chance alone gives about
    √(2 / (π (P − 1))) for P players: 0.25 for 11. NaN if the model scores without weights.

    Args:
        method: explains all models with the same seed.
        sample: B rows.
        models: how many times the weights are drawn anew.
        seed: of the method, and the first of the models'.
    """
    parts = sample.parts(method, seed)
    found = [
        _unlearnt(method, sample, parts, drawn_anew(sample.game.model, seed + draw), seed)
        for draw in range(models)
    ]
    return torch.tensor(found, dtype=torch.double).nanmean().item()


def cascade(method: Method, sample: Sample, seed: int) -> pd.DataFrame:
    """The same as more and more of the model is drawn anew, from the output side down.

    Returns:
        one row a module with weights: module, correlation (mean |rank correlation| once it and
        those above it are drawn anew).
    """
    parts = sample.parts(method, seed)
    model = sample.game.model
    names = scoring_modules(model)
    found = [
        _unlearnt(method, sample, parts, drawn_anew(model, seed, names[: depth + 1]), seed)
        for depth in range(len(names))
    ]
    return pd.DataFrame({"module": names, "correlation": found})


def _unlearnt(
    method: Method, sample: Sample, parts: Tensor, model: Recommender, seed: int
) -> float:
    """Mean |rank correlation| with the parts of another model; NaN if it scores alike."""
    other = sample.scored_by(model)
    if torch.equal(other.difference, sample.difference):
        return float("nan")
    return rank_agreement(parts, other.parts(method, seed)).abs().nanmean().item()

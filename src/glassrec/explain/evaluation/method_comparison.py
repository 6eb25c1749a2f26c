"""Methods compared on the same rows: how far each can be trusted, and its cost.

Attributions should not change with another seed, little with other inputs, and entirely with
another model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from time import perf_counter
from typing import Annotated, NamedTuple

import pandas as pd
import torch
from annotated_types import Ge, Gt
from scipy.stats import rankdata
from torch import Tensor

from glassrec.artifacts import Attributions
from glassrec.data.batch import Batch
from glassrec.data.events import step_names
from glassrec.explain.evaluation.faithfulness import Sample, curves, infidelity, subsets
from glassrec.explain.masking import to_float64
from glassrec.explain.methods import Method
from glassrec.models.base import Inputs, Recommender
from glassrec.models.sasrec import SASRec
from glassrec.progress import with_progress

MEASURES = (
    "delta", "deletion", "insertion", "deletion_random", "insertion_random", "infidelity",
    "sensitivity", "randomisation", "agreement", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Faithfulness:
    """How thoroughly methods are evaluated.

    A method runs about 5 + `points` + `models` times.

    Args:
        rows: on how many of the explained rows.
        steps: shares of the features at which deletion and insertion curves are taken.
        subsets: random sets of features whose removal measures infidelity.
        points: random inputs near each row that measure sensitivity.
        radius: how near, in standard deviations of each input.
        models: models with randomised weights, to test whether attributions depend on the model.
    """

    rows: Annotated[int, Ge(1)] = 100
    steps: Annotated[int, Ge(1)] = 20
    subsets: Annotated[int, Ge(1)] = 100
    points: Annotated[int, Ge(1)] = 4
    radius: Annotated[float, Gt(0)] = 0.1
    models: Annotated[int, Ge(1)] = 2


class MethodComparison(NamedTuple):
    """The results, as tables."""

    methods: pd.DataFrame
    """one row for each method: method (its key), name, complete, problem (why it cannot explain
    this model; empty if it can), and `MEASURES`: delta is the completeness error, mean
    |Σ attributions − logit difference| over mean |logit difference|; seconds are for 1,000 rows"""
    curves: pd.DataFrame
    """method, kind, order, share, mean_logit, as in `faithfulness.Curves`"""
    agreement: pd.DataFrame
    """first, second, correlation: the mean over rows of the rank correlation of the attributions of
    every two methods, in both directions and with itself"""
    importance: pd.DataFrame
    """method, player (the feature), mean_abs: the mean over rows of |attribution|"""


def compare_methods(
    methods: Mapping[str, Method], sample: Sample, settings: Faithfulness, seed: int
) -> MethodComparison:
    """Evaluate methods on the same rows, sets, points and models.

    A method that cannot explain the model is in the table with the reason, and nowhere else.
    """
    rows, drawn, values = [], [], {}
    for key, method in with_progress(
        ((1, each) for each in methods.items()), len(methods), unit="methods"
    ):
        row = {"method": key, "name": method.name, "complete": method.complete, "problem": ""}
        try:
            method.check(sample.view.model, sample.view.feature_mask, sample.background)
            values[key], seconds = _timed(method, sample, seed)
            frame, areas = curves(sample, values[key], settings.steps, seed)
            measured = _measures(method, sample, values[key], settings, seed)
            rows.append(row | areas | measured | {"seconds": seconds})
            drawn.append(frame.assign(method=key))
        except ValueError as error:
            values.pop(key, None)
            rows.append(row | {"problem": str(error)})
    table = pd.DataFrame(rows, columns=["method", "name", "complete", "problem", *MEASURES])
    columns = ["method", "kind", "order", "share", "mean_logit"]
    long = pd.concat(drawn, ignore_index=True)[columns] if drawn else pd.DataFrame(columns=columns)
    return MethodComparison(table, long, _agreements(values), _importance(sample, values))


def _timed(method: Method, sample: Sample, seed: int) -> tuple[Tensor, float]:
    """The attributions (B, P), and the seconds for 1,000 rows without a first call's setup."""
    sample.first(1).attributions(method, seed)
    device = sample.references.dense.device
    _finish(device)
    start = perf_counter()
    values = sample.attributions(method, seed)
    _finish(device)
    return values, (perf_counter() - start) * 1000 / sample.rows


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _measures(
    method: Method, sample: Sample, values: Tensor, settings: Faithfulness, seed: int
) -> dict[str, float]:
    removed = subsets(sample.view.size, settings.subsets, seed)
    near = nearby(sample.inputs, settings.radius, settings.points, seed)
    error = (to_float64(values).sum(1) - sample.difference).abs().mean()
    return {
        "delta": (error / sample.difference.abs().mean()).item(),
        "infidelity": infidelity(sample, values, removed),
        "sensitivity": sensitivity(method, sample, near, seed),
        "randomisation": randomisation(method, sample, settings.models, seed),
        "agreement": seed_agreement(method, sample, (seed, seed + 1)),
    }


def _importance(sample: Sample, values: Mapping[str, Tensor]) -> pd.DataFrame:
    features = sample.view.feature_mask.features
    found = [
        (key, feature, size)
        for key, each in values.items()
        for feature, size in zip(features, each.abs().mean(0).tolist(), strict=True)
    ]
    return pd.DataFrame(found, columns=["method", "player", "mean_abs"])


def _agreements(values: Mapping[str, Tensor]) -> pd.DataFrame:
    found = [
        (first, second, rank_agreement(values[first], values[second]).nanmean().item())
        for first, second in product(values, repeat=2)
    ]
    return pd.DataFrame(found, columns=["first", "second", "correlation"])


def rank_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of each two rows of (B, P): (B,) float64.

    Equal values share their mean rank. NaN where all values of a row are equal.
    """
    found = (torch.from_numpy(rankdata(each.detach().cpu(), axis=1)) for each in (first, second))
    a, b = (ranks - ranks.mean(1, keepdim=True) for ranks in found)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def seed_agreement(method: Method, sample: Sample, seeds: tuple[int, int]) -> float:
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


@torch.no_grad()
def attention_control(model: Recommender, rows: Batch, sample: Attributions) -> pd.DataFrame:
    """For each step of the features, the mean `attention` of the last step over heads and the rows
    that have it, and its rank correlation with |attribution|; no columns without attention.
    """
    steps, features = step_names(model.schema.history_length), sample.features
    if not isinstance(model, SASRec) or not {*steps} & {*features}:
        return pd.DataFrame(index=range(len(features)))
    parts = rows.to(model.device).chunks(64)
    found = torch.cat([model.attention(model.embed(part)).mean(1) for part in parts])
    weights = pd.DataFrame(found.cpu().numpy(), columns=steps).where((rows.history > 0).numpy())
    sizes = pd.DataFrame(sample.values.abs().numpy(), columns=[*features])
    ranked = {n: weights[n].corr(sizes[n], "spearman") for n in steps if n in sizes}
    columns = {"attention": weights.mean(), "attention_correlation": ranked}
    return pd.DataFrame(columns).reindex([*features]).reset_index(drop=True)

"""Methods compared on the same rows: how far each can be trusted, and its cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from time import perf_counter
from typing import Annotated, NamedTuple

import pandas as pd
import torch
from annotated_types import Ge, Gt
from torch import Tensor

from glassrec.explain.evaluation.faithfulness import Sample, curves, infidelity, subsets
from glassrec.explain.evaluation.stability import (
    agreement,
    nearby,
    randomisation,
    rank_agreement,
    sensitivity,
)
from glassrec.explain.masking import to_float64
from glassrec.explain.methods import Method
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
        "agreement": agreement(method, sample, (seed, seed + 1)),
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

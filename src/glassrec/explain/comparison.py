"""Methods side by side on the same rows: how far each can be trusted, and what it costs."""

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

from glassrec.explain.faithfulness import curves, infidelity, subsets
from glassrec.explain.game import double
from glassrec.explain.methods import Method
from glassrec.explain.sample import Sample
from glassrec.explain.stability import (
    agreement,
    nearby,
    randomisation,
    rank_agreement,
    sensitivity,
)
from glassrec.progress import with_progress

MEASURES = (
    "delta", "deletion", "insertion", "deletion_random", "insertion_random", "infidelity",
    "sensitivity", "randomisation", "agreement", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Faithfulness:
    """How thoroughly methods are judged.

    A method runs about 5 + `points` + `models` times.

    Args:
        rows: on how many of the explained rows.
        steps: shares of the players at which deletion and insertion curves are taken.
        subsets: random sets of players whose removal measures infidelity.
        points: random inputs near each row that measure sensitivity.
        radius: how near, in standard deviations of each input.
        models: models with weights drawn anew that test whether a method looks at the model.
    """

    rows: Annotated[int, Ge(1)] = 100
    steps: Annotated[int, Ge(1)] = 20
    subsets: Annotated[int, Ge(1)] = 100
    points: Annotated[int, Ge(1)] = 4
    radius: Annotated[float, Gt(0)] = 0.1
    models: Annotated[int, Ge(1)] = 2


class Comparison(NamedTuple):
    """What was found, as tables."""

    methods: pd.DataFrame
    """one row a method: method (its key), name, complete, problem (why it cannot explain this
    model; empty if it can), and `MEASURES`: delta is mean |Σ parts − logit difference| over mean
    |logit difference|, seconds are for 1,000 rows, the others as their functions say"""
    curves: pd.DataFrame
    """method, kind, order, share, mean_logit, as in `faithfulness.Curves`"""
    agreement: pd.DataFrame
    """first, second, correlation: the mean over rows of the rank correlation of the parts of every
    two methods, in both directions and with itself"""
    importance: pd.DataFrame
    """method, player, mean_abs: the mean over rows of |part|"""


def compare(
    methods: Mapping[str, Method], sample: Sample, settings: Faithfulness, seed: int
) -> Comparison:
    """Judge methods on the same rows, sets, points and models.

    A method that cannot explain the model stands in the table with the reason, and nowhere else.
    """
    rows, drawn, parts = [], [], {}
    for key, method in with_progress(
        ((1, each) for each in methods.items()), len(methods), unit="methods"
    ):
        row = {"method": key, "name": method.name, "complete": method.complete, "problem": ""}
        try:
            method.check(sample.game.model, sample.game.gates, sample.background)
            parts[key], seconds = _timed(method, sample, seed)
            frame, areas = curves(sample, parts[key], settings.steps, seed)
            measured = _measures(method, sample, parts[key], settings, seed)
            rows.append(row | areas | measured | {"seconds": seconds})
            drawn.append(frame.assign(method=key))
        except ValueError as error:
            parts.pop(key, None)
            rows.append(row | {"problem": str(error)})
    table = pd.DataFrame(rows, columns=["method", "name", "complete", "problem", *MEASURES])
    columns = ["method", "kind", "order", "share", "mean_logit"]
    long = pd.concat(drawn, ignore_index=True)[columns] if drawn else pd.DataFrame(columns=columns)
    return Comparison(table, long, _agreements(parts), _importance(sample, parts))


def _timed(method: Method, sample: Sample, seed: int) -> tuple[Tensor, float]:
    """The parts (B, P), and the seconds for 1,000 rows, without what only a first call does."""
    sample.first(1).parts(method, seed)
    device = sample.others.dense.device
    _finish(device)
    start = perf_counter()
    parts = sample.parts(method, seed)
    _finish(device)
    return parts, (perf_counter() - start) * 1000 / sample.rows


def _finish(device: torch.device) -> None:
    """Wait for what the device still computes."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _measures(
    method: Method, sample: Sample, parts: Tensor, settings: Faithfulness, seed: int
) -> dict[str, float]:
    """What is one number a method, but for areas and time."""
    removed = subsets(sample.game.players, settings.subsets, seed)
    near = nearby(sample.inputs, settings.radius, settings.points, seed)
    missed = (double(parts).sum(1) - sample.difference).abs().mean()
    return {
        "delta": (missed / sample.difference.abs().mean()).item(),
        "infidelity": infidelity(sample, parts, removed),
        "sensitivity": sensitivity(method, sample, near, seed),
        "randomisation": randomisation(method, sample, settings.models, seed),
        "agreement": agreement(method, sample, (seed, seed + 1)),
    }


def _importance(sample: Sample, parts: Mapping[str, Tensor]) -> pd.DataFrame:
    """As `Comparison.importance`, of the parts (B, P) by method."""
    found = [
        (key, player, size)
        for key, part in parts.items()
        for player, size in zip(sample.game.gates.players, part.abs().mean(0).tolist(), strict=True)
    ]
    return pd.DataFrame(found, columns=["method", "player", "mean_abs"])


def _agreements(parts: Mapping[str, Tensor]) -> pd.DataFrame:
    """As `Comparison.agreement`, of the parts (B, P) by method."""
    found = [
        (first, second, rank_agreement(parts[first], parts[second]).nanmean().item())
        for first, second in product(parts, repeat=2)
    ]
    return pd.DataFrame(found, columns=["first", "second", "correlation"])

"""Quality against the share that is pruned, for every importance score beside its controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, NamedTuple

import pandas as pd
from annotated_types import Ge, Interval, MinLen
from torch import Tensor

from glassrec.models.base import Recommender
from glassrec.progress import with_progress
from glassrec.prune.budget import least_important, neurons_of_share
from glassrec.prune.importance import CalibrationData, ImportanceScore, RandomScore
from glassrec.prune.precision import copy_sharing_table
from glassrec.prune.surgery import prune_neurons

Measure = Callable[[Recommender], Mapping[str, float]]
"""Numbers about a model by name: metrics and costs."""

FineTune = Callable[[Recommender, int], Recommender]
"""Trains a model for some more epochs."""


class Variant(NamedTuple):
    """A pruning variant: with means folded or not, and fine-tuned for some epochs."""

    folded: bool
    epochs: int


@dataclass(frozen=True)
class PruningCurves:
    """The scores, shares and variants of pruning curves.

    Args:
        scores: the importance scores, by a short name.
        shares: of the neurons of each layer that are pruned; 0, the whole model, is always added.
        draws: the number of random orders.
        unfolded: whether each model is also pruned without folding means, to show their effect.
        epochs: of fine-tuning, with which each model is also pruned; 0 leaves that out.
    """

    scores: Annotated[Mapping[str, ImportanceScore], MinLen(1)]
    shares: Annotated[Sequence[Annotated[float, Interval(ge=0, lt=1)]], MinLen(1)] = (
        0.0, 0.25, 0.5, 0.75, 0.9,
    )  # fmt: skip
    draws: Annotated[int, Ge(1)] = 3
    unfolded: bool = False
    epochs: Annotated[int, Ge(0)] = 0

    def compute(self, data: CalibrationData, measure: Measure, tune: FineTune) -> pd.DataFrame:
        """One row for each pruned model, each pruned in one step.

        Columns: score, draw, share, folded, epochs, units (the neurons that are left in the layers
        that are pruned), and those of `measure`.
        """
        tuned = {0: data.model}
        if self.epochs:
            tuned[self.epochs] = tune(deepcopy(data.model), self.epochs)
        whole = {epochs: measure(model) for epochs, model in tuned.items()}
        shares = sorted({0.0, *self.shares})
        variants = [Variant(True, 0)]
        variants += [Variant(False, 0)] if self.unfolded else []
        variants += [Variant(True, self.epochs)] if self.epochs else []
        points = [*product(self._rankings(data), shares, variants)]
        rows = []
        for (score, draw, importance), share, variant in with_progress(
            ((1, point) for point in points), len(points), unit="models"
        ):
            small = _pruned(data, importance, share, folded=variant.folded)
            if share and variant.epochs:
                small = tune(deepcopy(small), variant.epochs)
            measured = measure(small) if share else whole[variant.epochs]
            left = sum(len(small.layers[name].units) for name in importance)
            about = {"score": score, "draw": draw, "share": share}
            rows.append({**about, **variant._asdict(), "units": left, **measured})
        return pd.DataFrame(rows)

    def _rankings(self, data: CalibrationData) -> Iterator[tuple[str, int, Mapping[str, Tensor]]]:
        for name, score in self.scores.items():
            for draw in range(self.draws if isinstance(score, RandomScore) else 1):
                drawn = replace(data, seed=data.seed + draw) if draw else data
                yield name, draw, score.importance(drawn)


def _pruned(
    data: CalibrationData, importance: Mapping[str, Tensor], share: float, *, folded: bool
) -> Recommender:
    masks = {
        name: least_important(each, neurons_of_share(share, len(each)))
        for name, each in importance.items()
    }
    replacements = data.replacements(folded=folded)
    return prune_neurons(copy_sharing_table(data.model), masks, replacements)

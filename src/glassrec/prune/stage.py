"""Pruning a trained model: propose by conductance, prove by a pass over all rows, cut, certify."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Literal

import pandas as pd
from annotated_types import Ge

from glassrec.artifacts import Certificate, PrunePlan, Weights
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.models.base import Recommender
from glassrec.prune.certificate import certify
from glassrec.prune.plan import plan
from glassrec.prune.surgery import compact, cut


@dataclass(frozen=True)
class Prune:
    """How to prune.

    Args:
        level: what a unit must be to go. data: it emits the same on every row of every split, so
            the cut is exact there. sample: its conductance is zero on the explained rows; the cut
            may change other rows, and the certificate says by how much.
        chunk: rows that pass the model at once; bounds the memory.
    """

    level: Literal["data", "sample"] = "data"
    chunk: Annotated[int, Ge(1)] = 16384

    def plan(self, model: Recommender, scores: pd.DataFrame, dataset: Dataset) -> PrunePlan:
        """Decide which units go. All rows: training rows, held-out rows and their candidates."""

        def rows() -> Iterator[Batch]:
            for split in dataset.splits.values():
                yield from split.batch.chunks(self.chunk)

        model.eval()
        return plan(_precise(model), scores, self.level, rows)

    def cut(self, model: Recommender, plan: PrunePlan) -> Weights:
        """The weights of the smaller model."""
        return Weights(compact(cut(model, plan).state_dict()))

    def certify(
        self,
        model: Recommender,
        pruned: Weights,
        plan: PrunePlan,
        dataset: Dataset,
        weights_hash: str,
    ) -> Certificate:
        """Compare both models on all rows.

        Raises:
            RuntimeError: an exact level did not keep its promise.
        """
        large = _precise(model).double().eval()
        small = deepcopy(large)
        small.load(pruned.tensors, "the pruned model")
        rows = {name: split.batch.chunks(self.chunk) for name, split in dataset.splits.items()}
        return certify(large, small, plan.level, rows, weights=weights_hash)


def _precise(model: Recommender) -> Recommender:
    """A copy where float64 exists: on the model's device, but for Apple's."""
    copy = deepcopy(model)
    return copy.cpu() if model.device.type == "mps" else copy

"""Pruning a trained model: propose by conductance, prove by a pass over all rows, cut, certify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Literal

import pandas as pd
from annotated_types import Ge

from glassrec.artifacts import Certificate, PrunePlan, Weights, digest
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.models.base import Recommender
from glassrec.prune.certificate import certify, data_digests
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
        *,
        files: Mapping[str, str],
        given: Mapping[str, Mapping[str, str]],
    ) -> Certificate:
        """Compare both models on all rows.

        Args:
            model: the large one.
            pruned: the weights of the small one.
            plan: what went.
            dataset: all rows.
            files: the sha256 of the files of both models and of the plan.
            given: the sha256 of what came from outside, see `Certificate`.

        Raises:
            BrokenPromiseError: an exact level did not keep its promise.
        """
        large = _precise(model).double().eval()
        small = deepcopy(large)
        small.load(pruned.tensors, "the pruned model")
        return certify(
            large,
            small,
            plan,
            {name: split.batch.chunks(self.chunk) for name, split in dataset.splits.items()},
            weights=digest(model.state_dict()),
            pruned=digest(pruned.tensors),
            files=files,
            given=given,
            splits=data_digests(dataset),
        )


def _precise(model: Recommender) -> Recommender:
    """A copy where float64 exists: on the model's device, but for Apple's."""
    copy = deepcopy(model)
    return copy.cpu() if model.device.type == "mps" else copy

"""What training descends: each task by the loss of its kind, weighted and added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.data.schema import Target
from glassrec.models.base import Recommender
from glassrec.spelling import one_of


@dataclass(frozen=True)
class Objective:
    """The loss of a batch: the sum over tasks of weight times mean over rows.

    A click has the binary cross-entropy of its logit, a rating the squared error of its estimate.

    Args:
        weights: by the name of the task; 1 where nothing is named, and 0 leaves the task out.
    """

    weights: Mapping[str, Annotated[float, Ge(0)]] = field(default_factory=dict)

    def of(self, dataset: Dataset) -> Loss:
        """The loss on a dataset's tasks.

        Raises:
            ValueError: a weight is of no task, or all of them are zero.
        """
        names = [target.name for target in dataset.schema.targets]
        for name in self.weights:
            if name not in names:
                raise ValueError(f"objective.weights: no task {name!r}{one_of(name, names)}")
        weights = [float(self.weights.get(name, 1)) for name in names]
        if not any(weights):
            raise ValueError("objective.weights: all are zero, so there is nothing to learn")
        return Loss(dataset.schema.targets, weights)


@dataclass(frozen=True)
class Loss:
    """The loss of a batch; a task of weight 0 is not computed."""

    targets: tuple[Target, ...]
    weights: list[float]

    def __call__(self, model: Recommender, batch: Batch) -> Tensor:
        """The loss, a number."""
        logits = model(batch)
        parts = [
            weight * self._part(target, logits[:, task], batch.targets[:, task])
            for task, (target, weight) in enumerate(zip(self.targets, self.weights, strict=True))
            if weight
        ]
        total, *others = parts
        for part in others:
            total = total + part
        return total

    def _part(self, target: Target, logits: Tensor, truth: Tensor) -> Tensor:
        if target.kind == "click":
            return F.binary_cross_entropy_with_logits(logits, truth)
        if target.kind == "rating":
            return F.mse_loss(logits, truth)
        raise NotImplementedError  # retrieval

"""How good a model is on one split: each task by the metrics of its kind.

All of it is computed in float64 on whole tensors.
"""

from __future__ import annotations

from torch import Tensor

from glassrec.data.dataset import Dataset, Split
from glassrec.evaluate.clicks import clicks
from glassrec.evaluate.ratings import ratings
from glassrec.evaluate.retrieval import retrieval
from glassrec.models.base import Recommender


def quality(model: Recommender, dataset: Dataset, name: str) -> dict[str, float]:
    """The metrics of a model on the split `name`; `task/metric` where there are several tasks.

    Raises:
        ValueError: the split is empty, a logit is not finite, or the split does not suit a task.
    """
    split = dataset.splits[name]
    logits = predicted(model, split)
    targets = split.batch.targets.double().cpu()
    query = None if split.query is None else split.query.cpu()
    found: dict[str, float] = {}
    for column, target in enumerate(dataset.schema.targets):
        score, truth = logits[:, column], targets[:, column]
        if target.kind == "click":
            metrics = clicks(score, truth, query)
        elif target.kind == "rating":
            metrics = ratings(score, truth)
        else:
            metrics = retrieval(model, dataset, name, column)
        found |= {dataset.schema.metric(target, m): value for m, value in metrics.items()}
    return found


def predicted(model: Recommender, split: Split) -> Tensor:
    """The logits (N, K) of a split in float64; ValueError if there are none, or not all finite."""
    logits = model.predict(split.batch).double()
    _check(logits)
    return logits


def _check(logits: Tensor) -> None:
    if not len(logits):
        raise ValueError("no rows to evaluate: the split is empty")
    bad = (~logits.isfinite()).nonzero()
    if len(bad):
        row, task = bad[0].tolist()
        raise ValueError(
            f"{len(bad)} of {logits.numel()} logits are not finite, the first is "
            f"{logits[row, task]} at row {row}; lower the learning rate, or look for extreme dense "
            "values"
        )

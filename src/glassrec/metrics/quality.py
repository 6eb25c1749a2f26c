"""How good a model is on one split: each task by the metrics of its kind.

All of it is computed in float64 on whole tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from glassrec.data.dataset import Dataset, Split
from glassrec.metrics.clicks import clicks, ranking
from glassrec.metrics.known import by_group, unseen
from glassrec.metrics.ratings import ratings
from glassrec.metrics.retrieval import each_user, unseen_users
from glassrec.models.base import Recommender

EVERY = slice(None)


def quality(
    model: Recommender, dataset: Dataset, name: str, *, groups: bool = False
) -> dict[str, float]:
    """The metrics of a model on the split `name`; `task/metric` where there are several tasks.

    Args:
        model: any recommender.
        dataset: where the split is from.
        name: of the split: train, val or test.
        groups: also those of users and items that training knows or does not know, see `by_group`.

    Raises:
        ValueError: the split is empty, a logit is not finite, or the split does not suit a task.
    """
    split, schema = dataset.splits[name], dataset.schema
    logits, targets = predicted(model, split), split.batch.targets.double().cpu()
    query = None if split.query is None else split.query.cpu()
    found: dict[str, float] = {}
    for column, target in enumerate(schema.targets):
        score, truth = logits[:, column], targets[:, column]
        if target.kind == "retrieval":
            units, measure = "users", partial(_means, each_user(model, dataset, name, column))
            metrics = measure()
        elif target.kind == "click" and query is not None:
            units, measure = "lists", partial(_means, ranking(score, truth == 1, query))
            metrics = clicks(score, truth, query)
        else:
            judge = clicks if target.kind == "click" else ratings
            units, measure = "rows", partial(_judged, judge, score, truth)
            metrics = measure()
        if groups:
            metrics |= by_group(measure, _unseen(dataset, name, column, units), units)
        found |= {schema.metric(target, metric): value for metric, value in metrics.items()}
    return found


def _unseen(dataset: Dataset, name: str, column: int, units: str) -> dict[str, Tensor]:
    """(U,) bool by group: of rows, of lists by their user and held-out item, or of users."""
    if units == "users":
        return {"unseen_user": unseen_users(dataset, name, column)}
    split = dataset.splits[name]
    rows = unseen(split, dataset.schema)
    positive = split.batch.targets[:, column].cpu() == 1
    return rows if units == "rows" else {group: each[positive] for group, each in rows.items()}


def _judged(
    judge: Callable[[Tensor, Tensor], dict[str, float]],
    score: Tensor,
    truth: Tensor,
    rows: Tensor | slice = EVERY,
) -> dict[str, float]:
    """The metrics of chosen rows."""
    return judge(score[rows], truth[rows])


def _means(values: Mapping[str, Tensor], chosen: Tensor | slice = EVERY) -> dict[str, float]:
    """The means of the values (U,) of chosen units."""
    return {name: each[chosen].mean().item() for name, each in values.items()}


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

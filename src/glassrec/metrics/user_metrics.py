"""Metrics of the user: torchmetrics of the probability of a click or the estimate of a rating."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from glassrec.data.batch import Split
from glassrec.data.schema import Schema

if TYPE_CHECKING:  # it takes seconds to import
    from torchmetrics import Metric


def user_metrics(
    metrics: Mapping[str, Metric], schema: Schema, split: Split, logits: Tensor
) -> dict[str, float]:
    """The value of each metric on all rows; `task/name` where there are several tasks.

    Args:
        metrics: by name. One of ranking lists (a `RetrievalMetric`) gets the list of each row, too.
        schema: of the rows.
        split: N rows.
        logits: (N, K) of these rows; a rating's logit is its estimate.

    Raises:
        ValueError: a metric does not suit a task; the message names its setting.
    """
    found = {}
    for column, target in enumerate(schema.targets) if metrics else ():
        predicted = logits[:, column].double().cpu()
        truth = split.batch.targets[:, column].cpu()
        if target.kind != "rating":
            predicted, truth = predicted.sigmoid(), truth.long()
        for name, metric in metrics.items():
            value = _computed(name, metric, predicted, truth, split.query)
            found[schema.metric(target, name)] = value
    return found


def mode(metric: Metric | None) -> str | None:
    """`min` or `max`, whichever is better by the metric's own statement; None without one."""
    stated = None if metric is None else metric.higher_is_better
    return None if stated is None else "max" if stated else "min"


def _computed(
    name: str, metric: Metric, predicted: Tensor, truth: Tensor, query: Tensor | None
) -> float:
    from torchmetrics.retrieval.base import RetrievalMetric

    lists = (
        {"indexes": query.cpu()}
        if isinstance(metric, RetrievalMetric) and query is not None
        else {}
    )
    metric.sync_on_compute = False  # each process has all rows
    metric.reset()
    try:
        metric.update(predicted, truth, **lists)
        return float(metric.compute())
    except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError) as error:
        raise ValueError(
            f"metrics.{name}: {type(metric).__name__} gives no number: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        metric.reset()

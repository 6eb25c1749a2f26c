"""Metrics of the user: torchmetrics of the probability of a click or the estimate of a rating."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from torch import Tensor

from glassrec.data.batch import Split
from glassrec.data.schema import Schema
from glassrec.metrics.metadata import BUILT_IN
from glassrec.spelling import one_of

if TYPE_CHECKING:  # it takes seconds to import
    from torchmetrics import Metric


def check_metrics(metrics: Any, monitor: str | None) -> None:
    """ValueError if the group `metrics` holds what is none, or `trainer.monitor` names no metric.

    Args:
        metrics: by name, or None.
        monitor: `val/NAME`, before the name perhaps a task or a group of rows, or None.
    """
    found = {} if metrics is None else metrics
    if not isinstance(found, Mapping):
        raise ValueError(
            f"metrics: {type(found).__name__} has no name; write the name first, as in "
            "`mine:`, and below it, indented, `_target_:` and the arguments"
        )
    for name, metric in found.items():
        if name in BUILT_IN:
            raise ValueError(f"metrics.{name}: Glassrec computes {name!r} itself; rename yours")
        if not (hasattr(metric, "update") and hasattr(metric, "compute")):
            raise ValueError(f"metrics.{name}: {metric!r} is no metric; give its class as _target_")
    split, _, name = (monitor or "val/").partition("/")
    known = sorted(BUILT_IN | {*found})
    if split != "val" or (name and name.rpartition("/")[2] not in known):
        names = [f"val/{each}" for each in known]
        raise ValueError(f"trainer.monitor: no metric {monitor!r}{one_of(str(monitor), names)}")


def user_metrics(
    metrics: Mapping[str, Metric], schema: Schema, split: Split, logits: Tensor
) -> dict[str, float]:
    """The value of each metric on all rows; `task/name` where there are several tasks.

    Args:
        metrics: by name. One whose `update` has `indexes` gets the list of each row, too.
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
    takes_lists = "indexes" in signature(metric.update).parameters
    lists = {"indexes": query.cpu()} if takes_lists and query is not None else {}
    for part in metric.modules():  # this process has all rows, and does not wait for others
        part.distributed_available_fn = bool  # type: ignore[assignment]  # False
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

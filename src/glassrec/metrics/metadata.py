"""What the name of a metric says: which tell most, and which way is better. Nothing is computed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import floor, inf, log10

IDEAL = {
    "log_loss": 0, "normalized_entropy": 0, "ece": 0, "calibration": 1, "rmse": 0, "mae": 0,
    "bias": 0, "parameters": 0, "tower_parameters": 0, "flops": 0, "bytes": 0, "tower_bytes": 0,
    "max_abs_logit_difference": 0, "p999_abs_logit_difference": 0, "rows_changed": 0,
    "share_changed": 0, "conductance_change": 0, "relative_delta": 0,
}  # fmt: skip
"""What is best of metrics of which more is not better; of a latency, it is 0, too."""

TELLING = (("recall@10", "ndcg@10"), ("hr@10", "ndcg@10"), ("rmse", "mae"), ("auroc", "accuracy"))
"""The two metrics that tell most, by the first one that is there."""

IN_UNIT = ("rmse", "mae", "bias")
"""Metrics in the unit of the ratings, which may be of any size."""

GROUPS = ("known", "unseen_user", "unseen_item")
"""Parts of a split with metrics of their own, by what training has seen: `unseen_item/rmse`."""

MONITORED = ("recall@10", "ndcg@10", "rmse", "auroc")
"""What selects the best epoch: the first one that a task has."""


def sign(metric: str) -> int:
    """−1 for an error or a cost, of which less is better; 1 for any other metric."""
    return -1 if _ideal(metric) == 0 else 1


def merit(metric: str, value: float) -> float:
    """A number of which more is better, from the value of a metric, by its name."""
    ideal = _ideal(metric)
    return value if ideal is None else -abs(value - ideal)


def best(metric: str, values: Iterable[float]) -> int:
    """The place of the best of a metric's values, the first among equals."""
    merits = [merit(metric, value) for value in values]
    return merits.index(max(merits))


def headline(metrics: Collection[str]) -> list[str]:
    """Those names of metrics that tell most, two a task; none for a task that has none of them."""
    found: list[str] = []
    for task in dict.fromkeys(name.rpartition("/")[0] for name in metrics if not grouped(name)):
        prefix = f"{task}/" if task else ""
        pairs = ([prefix + metric for metric in pair] for pair in TELLING)
        found += next((pair for pair in pairs if pair[0] in metrics), [])
    return found


def formatted(metric: str, value: float, size: float | None = None) -> str:
    """The value of a metric with four decimals; of one in the unit of a rating, with four digits.

    Args:
        metric: its name.
        value: of the metric, or a change of it.
        size: the value whose digits count, where `value` is a change.
    """
    size = abs(value if size is None else size)
    places = 4
    if metric.rpartition("/")[2] in IN_UNIT and 0 < size < inf and not 1e-2 <= size < 1e3:
        places = max(3 - floor(log10(size)), 0)
    return f"{value:z,.{places}f}"


def grouped(metric: str) -> bool:
    """Whether a metric is of a part of a split only."""
    return any(part in GROUPS for part in metric.split("/")[:-1])


def _ideal(metric: str) -> int | None:
    last = metric.rpartition("/")[2]
    return 0 if last.startswith("latency_") else IDEAL.get(last)

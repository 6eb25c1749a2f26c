"""Primary metrics, directions and formats, by the name of a metric. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import floor, inf, isnan, log10

TARGET_VALUES = {
    "log_loss": 0, "normalized_entropy": 0, "ece": 0, "calibration": 1, "rmse": 0, "mae": 0,
    "bias": 0, "parameters": 0, "tower_parameters": 0, "flops": 0, "bytes": 0, "tower_bytes": 0,
    "max_abs_logit_difference": 0, "p999_abs_logit_difference": 0, "rows_changed": 0,
    "share_changed": 0, "conductance_change": 0, "relative_delta": 0,
}  # fmt: skip
"""The best value of each metric for which higher is not better; of a latency it is 0, too."""

PRIMARY = (("recall@10", "ndcg@10"), ("hr@10", "ndcg@10"), ("rmse", "mae"), ("auroc", "accuracy"))
"""Pairs of primary metrics; the first pair whose first metric a task has is shown."""

IN_UNIT = ("rmse", "mae", "bias")
"""Metrics in the unit of the ratings, which may be of any size."""

GROUPS = ("known", "unseen_user", "unseen_item", "full")
"""Parts of a split with their own metrics, by the ids seen in training: `unseen_item/rmse`; and
held-out items among all items, `full/hr@10`."""

BUILT_IN = frozenset(
    ["auroc", "log_loss", "normalized_entropy", "accuracy", "calibration", "ece", "rmse", "mae",
     "bias", *(f"{each}@{k}" for each in ("hr", "ndcg", "recall") for k in (10, 100))]
)  # fmt: skip
"""The metrics that Glassrec computes by itself; a metric of the user's own has another name."""

MONITORED = ("recall@10", "ndcg@10", "rmse", "auroc")
"""The first one that a task has selects its best epoch."""


def sign(metric: str) -> int:
    """−1 for an error or a cost, for which lower is better; 1 for any other metric."""
    return -1 if _target_value(metric) == 0 else 1


def direction(metric: str, mode: str | None = None) -> str:
    """The direction of a metric, as a sentence names it; `mode` as in `best_index`."""
    lower = sign(metric) < 0 if mode is None else mode == "min"
    return "lower is better" if lower else "higher is better"


def as_higher_is_better(metric: str, value: float) -> float:
    """The value of a metric turned into a number for which higher is better."""
    target = _target_value(metric)
    return value if target is None else -abs(value - target)


def best_index(metric: str, values: Iterable[float], mode: str | None = None) -> int:
    """The index of the best of a metric's values, the first among equals; NaN is the worst.

    Args:
        metric: its name.
        values: at least one.
        mode: min or max, for a metric of the user's own, whose name says nothing.
    """
    sign = {"min": -1, "max": 1}.get(mode or "")
    turned = (as_higher_is_better(metric, v) if sign is None else sign * v for v in values)
    oriented = [-inf if isnan(value) else value for value in turned]
    return oriented.index(max(oriented))


def primary_metrics(metrics: Collection[str]) -> list[str]:
    """The names of the primary metrics, two per task; none for a task that has none of them."""
    found: list[str] = []
    whole = [name for name in metrics if not {*GROUPS} & {*name.split("/")[:-1]}]
    for task in dict.fromkeys(name.rpartition("/")[0] for name in whole):
        prefix = f"{task}/" if task else ""
        pairs = ([prefix + metric for metric in pair] for pair in PRIMARY)
        found += next((pair for pair in pairs if pair[0] in metrics), [])
    return found


def format_metric(metric: str, value: float, size: float | None = None) -> str:
    """The value of a metric with four decimals; of one in the unit of a rating, with four digits.

    The value may be a change of the metric, whose `size` then sets the number of digits.
    """
    size = abs(value if size is None else size)
    places = 4
    if metric.rpartition("/")[2] in IN_UNIT and 0 < size < inf and not 1e-2 <= size < 1e3:
        places = max(3 - floor(log10(size)), 0)
    return f"{value:z,.{places}f}"


def _target_value(metric: str) -> int | None:
    last = metric.rpartition("/")[2]
    return 0 if last.startswith("latency_") else TARGET_VALUES.get(last)

"""Numbers and names as figures and pages show them. Nothing heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite, isnan

from glassrec.metrics.metadata import BUILT_IN, IN_UNIT, format_metric

Formatter = Callable[[float], str]

DASH = "–"
"""Stands for a value that is not there."""

STEP = re.compile(r"history\[-(\d+)\](\[\d+\])?")
"""A step of the history, or a dimension of it, among the features."""

METRICS = {
    "train/loss": "training loss",
    "auroc": "AUROC",
    "log_loss": "log loss",
    "normalized_entropy": "normalised entropy",
    "ece": "calibration error",
    "gauc": "GAUC",
    "mrr": "MRR",
    "map": "MAP",
    "rmse": "RMSE",
    "mae": "MAE",
    "bias": "mean error",
}
"""Metrics that are not called as the files name them."""

COSTS: dict[str, tuple[str, Formatter]] = {
    "parameters": ("parameters", lambda count: f"{count:,.0f}"),
    "tower_parameters": ("without the table", lambda count: f"{count:,.0f}"),
    "bytes": ("saved weights", lambda count: f"{count / 1024:,.0f} KiB"),
    "flops": ("FLOPs per row", lambda count: f"{count:,.0f}"),
    "latency_p50_1": ("latency, 1 row", lambda time: f"{time:.3g} ms"),
    "latency_p50_256": ("latency, 256 rows", lambda time: f"{time:.3g} ms"),
    "latency_p50_4096": ("latency, 4,096 rows", lambda time: f"{time:.3g} ms"),
}
"""The name of each cost, and its formatter."""


def minus(number: str) -> str:
    """A number with a minus sign as long as the plus."""
    return number.replace("-", "−")


def format_value(value: float) -> str:
    """A number of any size with three digits; a dash if it is none."""
    return DASH if isnan(value) else minus(f"{value:.3g}")


def number_text(value: float) -> str:
    """A raw value with four digits or all whole ones: `91.23`, `1995`, `12,345`."""
    size = abs(value)
    return minus(f"{value:,.0f}" if size >= 1e4 else f"{value:{'.0f' if size >= 1e3 else '.4g'}}")


def whole(value: float | None) -> str:
    """A count, `12,345`."""
    return DASH if value is None or not isfinite(value) else minus(f"{value:,.0f}")


def percent(share: float | None, decimals: int = 1) -> str:
    """A share, `12.3 %`."""
    if share is None or not isfinite(share):
        return DASH
    return minus(f"{share:.{decimals}%}".replace("%", " %"))


def fixed(value: float | None, decimals: int = 4) -> str:
    """A number with so many decimals: those of a column stand below each other."""
    return DASH if value is None or not isfinite(value) else minus(f"{value:z.{decimals}f}")


def relative_change(before: float | None, after: float | None) -> str:
    """`−30.5 %`; nothing where it is not known."""
    if not before or after is None:
        return ""
    return minus(f"{after / before - 1:+z.1%}").replace("%", " %")


def shorten(name: str, letters: int = 26) -> str:
    """A name that fits beside a panel; a long one loses its middle."""
    kept = letters - 1
    return name if len(name) <= letters else f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}"


def feature_name(feature: str) -> str:
    """The name of a feature; a step of the history as `2nd last item`."""
    step = STEP.fullmatch(feature)
    return feature if step is None or step[2] else f"{ordinal(int(step[1]))} item"


def ordinal(ago: int) -> str:
    """`last`, `2nd last`, `11th last`, `22nd last`."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    end = "th" if 10 <= ago % 100 <= 20 else ends.get(ago % 10, "th")
    return "last" if ago == 1 else f"{ago}{end} last"


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def metric_name(name: str) -> str:
    """The name of a metric without its split: `rating: RMSE`."""
    if name in METRICS:
        return METRICS[name]
    if (short := name.partition("@")[0]) in ("hr", "ndcg"):
        return short.upper() + name[len(short) :]
    task, _, last = name.removeprefix("test/").removeprefix("val/").rpartition("/")
    plain, _, end = last.rpartition("_")
    if end in ("low", "high") and plain in BUILT_IN:
        return f"{metric_name(f'{task}/{plain}')}, {end} end of its interval"
    shown = metric_name(last) if task else METRICS.get(last, last)
    return f"{task}: {shown}" if task else shown


def metric_text(name: str, value: float) -> str:
    """The value of a metric."""
    last = name.rpartition("/")[2].removesuffix("_low").removesuffix("_high")
    if last in IN_UNIT:
        return minus(format_metric(last, value))
    return percent(value, 2) if last in ("accuracy", "hr@10", "recall@10") else fixed(value)

"""The picture of what a cut changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glassrec.metrics.metadata import IN_UNIT, format_metric
from glassrec.report.style import FAINT, LARGE, SMALL, digits, drawn, heading, minus

if TYPE_CHECKING:
    from glassrec.artifacts import Certificate, PrunePlan

COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("parameters", lambda count: f"{count:,.0f}"),
    "tower_parameters": ("without the table", lambda count: f"{count:,.0f}"),
    "bytes": ("saved weights", lambda count: f"{count / 1024:,.0f} KiB"),
    "flops": ("FLOPs a row", lambda count: f"{count:,.0f}"),
    "latency_p50_1": ("latency, 1 row", lambda time: f"{time:.3g} ms"),
    "latency_p50_256": ("latency, 256 rows", lambda time: f"{time:.3g} ms"),
    "latency_p50_4096": ("latency, 4,096 rows", lambda time: f"{time:.3g} ms"),
}
"""What costs are called, and how one is written."""


@drawn
def before_and_after(
    metrics: Mapping[str, float],
    shown: Sequence[str],
    plan: PrunePlan,
    certificate: Certificate,
) -> Figure:
    """Quality and cost of the model as trained and of the pruned one, and what is left of it.

    Args:
        metrics: as in `metrics.json` and `latency.json`.
        shown: the test metrics that are compared, without their prefix.
        plan: what was cut.
        certificate: what the cut changed.
    """
    costs = [name for name in COSTS if metrics.get(name)]  # of nothing there is no share
    heights = [0.9 + 0.42 * len(shown), 0.9 + 0.24 * max(len(costs), len(plan.layers))]
    figure = Figure(figsize=(9.5, sum(heights)), layout="constrained")
    (quality, change), (cost, size) = figure.subplots(2, 2, height_ratios=heights)
    _quality_panel(quality, metrics, shown)
    _change_panel(change, metrics, shown)
    _cost_panel(cost, metrics, costs)
    if plan.layers:
        _size_panel(size, plan)
    else:
        size.remove()
    heading(
        figure,
        f"What did the cut change? {plan.dropped:,} of {plan.units:,} neurons are gone",
        f"level {plan.level}; {_proof(certificate)}",
        *_agreement(metrics),
    )
    return figure


def _proof(certificate: Certificate) -> str:
    rows, largest = sum(certificate.rows.values()), certificate.max_abs_logit_difference
    if certificate.exact:
        return f"equal on all {rows:,} rows: largest |Δlogit| {digits(largest)}"
    changed = certificate.rows_changed
    return f"{changed:,} of {rows:,} rows changed: largest |Δlogit| {digits(largest)}"


def _agreement(metrics: Mapping[str, float]) -> list[str]:
    """How many of the first ten still are, a task."""
    end = "top10_agreement"
    found = {name.split("/")[-2]: share for name, share in metrics.items() if name.endswith(end)}
    return [
        f"{share:.1%} of each list's first 10 are among its first 10 after the cut"
        + (f" (task {task})" if task != "test" else "")
        for task, share in found.items()
    ]


def _quality_panel(axes: Axes, metrics: Mapping[str, float], shown: Sequence[str]) -> None:
    places = np.arange(len(shown))
    for offset, prefix, label, colour in (
        (-0.2, "test/", "as trained", LARGE),
        (0.2, "pruned/test/", "pruned", SMALL),
    ):
        values = [metrics[prefix + m] for m in shown]
        bars = axes.barh(places + offset, values, 0.38, label=label, color=colour)
        said = [format_metric(m, value) for m, value in zip(shown, values, strict=True)]
        axes.bar_label(bars, labels=said, fontsize=8, padding=2)
    _names(axes, shown)
    axes.margins(x=0.25)
    axes.set_title("Quality on the test split")
    axes.legend(loc="lower right", bbox_to_anchor=(1.08, 1), ncols=2, borderaxespad=0)


def _change_panel(axes: Axes, metrics: Mapping[str, float], shown: Sequence[str]) -> None:
    """The differences, with their intervals, around a line at none."""
    sizes = [metrics[f"test/{metric}"] for metric in shown if metric.endswith(IN_UNIT)]
    reach = 1e-4 * min([1.0, *sizes])
    for place, metric in enumerate(shown):
        name = f"pruned/test/{metric}_change"
        change, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
        if isnan(change):
            said = "not defined"
        else:
            axes.plot([low, high], [place, place], color=SMALL, linewidth=3, alpha=0.55)
            axes.plot(change, place, "o", color=SMALL, markersize=6)
            reach = max(reach, abs(low), abs(high))
            size = metrics[f"test/{metric}"]
            told = [format_metric(metric, value, size) for value in (change, low, high)]
            said = minus(f"{told[0]} ({told[1]} to {told[2]})")
        # On white, as the line at none passes behind it.
        box = {"color": "white", "pad": 1}
        axes.text(0, place - 0.2, said, ha="center", va="bottom", fontsize=8, bbox=box)
    axes.axvline(0, color=LARGE, linewidth=1, zorder=0)
    _names(axes, shown)
    axes.set_ylim(len(shown) - 0.5, -0.75)
    axes.set_xlim(-1.3 * reach, 1.3 * reach)
    axes.locator_params(axis="x", nbins=5)
    axes.set_title("Change: pruned − as trained")
    axes.set_xlabel("bars: 95 % paired bootstrap interval")


def _cost_panel(axes: Axes, metrics: Mapping[str, float], costs: Sequence[str]) -> None:
    shares, said = [], []
    for name in costs:
        before, after = metrics[name], metrics[f"pruned/{name}"]
        form = COSTS[name][1]
        shares.append(after / before)
        said.append(f"{form(before)} → {form(after)} ({minus(f'{after / before - 1:+z.1%}')})")
    _shares(axes, [COSTS[name][0] for name in costs], shares, said)
    axes.set_title("Cost of the pruned model")
    axes.set_xlabel("share of the cost as trained (latency: median)")


def _size_panel(axes: Axes, plan: PrunePlan) -> None:
    sizes = [(len(cut.kept), cut.built) for cut in plan.layers.values()]
    said = [f"{kept} of {built} kept" for kept, built in sizes]
    _shares(axes, [*plan.layers], [kept / built for kept, built in sizes], said)
    axes.set_title("Size of each layer")
    axes.set_xlabel("units kept")


def _shares(axes: Axes, names: Sequence[str], shares: Sequence[float], said: Sequence[str]) -> None:
    """Bars on a ground that ends at one, each with what is said of it."""
    places = np.arange(len(names))
    axes.barh(places, shares, color=SMALL, height=0.7)
    axes.barh(places, np.ones(len(names)), color=FAINT, height=0.7, zorder=0)
    for place, text in enumerate(said):
        axes.text(0.015, place, text, va="center", fontsize=8)
    _names(axes, names)
    axes.set_xlim(0, max(1.0, *shares, 1.0))
    axes.xaxis.set_major_formatter("{x:.0%}")


def _names(axes: Axes, names: Sequence[str]) -> None:
    """One line each, the first at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)

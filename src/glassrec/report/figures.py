"""The picture of what a cut changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glassrec.artifacts import Certificate, PrunePlan
from glassrec.report.style import LARGE, SILENT, SMALL, digits, drawn, heading


@drawn
def before_and_after(
    metrics: Mapping[str, float],
    shown: Sequence[str],
    plan: PrunePlan,
    certificate: Certificate,
) -> Figure:
    """Quality and size of the model as trained and of the pruned one.

    Args:
        metrics: as in `metrics.json`.
        shown: the test metrics that the left panel compares, without their prefix.
        plan: what was cut.
        certificate: what the cut changed.
    """
    bars = max(len(plan.layers), 2 * len(shown))
    figure = Figure(figsize=(9, 1.8 + 0.22 * bars), layout="constrained")
    quality, size = figure.subplots(1, 2, width_ratios=[2, 3])
    _quality_panel(quality, metrics, shown)
    _size_panel(size, plan)
    heading(
        figure,
        f"What did the cut change? {plan.dropped:,} of {plan.units:,} neurons are gone",
        f"level {plan.level}; {_proof(certificate)}",
        f"parameters: {_change(metrics, 'parameters')}; without the embedding table: "
        f"{_change(metrics, 'tower_parameters')}",
    )
    return figure


def _proof(certificate: Certificate) -> str:
    rows, largest = sum(certificate.rows.values()), certificate.max_abs_logit_difference
    if certificate.exact:
        return f"equal on all {rows:,} rows: largest |Δlogit| {digits(largest)}"
    changed = certificate.rows_changed
    return f"{changed:,} of {rows:,} rows changed: largest |Δlogit| {digits(largest)}"


def _change(metrics: Mapping[str, float], name: str) -> str:
    before, after = metrics[name], metrics[f"pruned/{name}"]
    return f"{before:,.0f} → {after:,.0f} (−{1 - after / before:.1%})"


def _quality_panel(axes: Axes, metrics: Mapping[str, float], shown: Sequence[str]) -> None:
    places = np.arange(len(shown))
    for offset, prefix, label, colour in (
        (-0.2, "test/", "as trained", LARGE),
        (0.2, "pruned/test/", "pruned", SMALL),
    ):
        bars = axes.barh(
            places + offset, [metrics[prefix + m] for m in shown], 0.38, label=label, color=colour
        )
        axes.bar_label(bars, fmt="%.4f", fontsize=8, padding=2)
    axes.set_yticks(places, shown)
    axes.invert_yaxis()
    axes.set_xlabel("on the test split")
    axes.margins(x=0.25)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    axes.set_title("Quality")


def _size_panel(axes: Axes, plan: PrunePlan) -> None:
    names = list(plan.layers)
    built = np.array([cut.built for cut in plan.layers.values()])
    kept = np.array([len(cut.kept) for cut in plan.layers.values()])
    places = np.arange(len(names))
    axes.barh(places, kept / built, color=SMALL, height=0.7)
    axes.barh(places, 1 - kept / built, left=kept / built, color=SILENT, alpha=0.25, height=0.7)
    for place, (now, before) in enumerate(zip(kept, built, strict=True)):
        axes.text(0.01, place, f"{now} of {before} kept", va="center", fontsize=8)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("units kept")
    axes.set_title("Size of each layer")

"""Pictures of one run that can be read without the code."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glassrec.artifacts import Attributions, Certificate, Picture, PrunePlan

INK, LARGE, SMALL, SILENT = "#22303c", "#2f6f9f", "#e08e45", "#c3423f"
"""Text; the model as trained; the model after the cut; units that do nothing."""

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8794a0",
    "xtick.color": INK,
    "ytick.color": INK,
}

SHOWN = 40
"""Bars that a reader can still tell apart."""


def feature_importance(attributions: Attributions) -> Picture:
    """The mean |attribution| of each player, with its standard error over rows."""
    importance = attributions.importance()
    shown = importance.head(SHOWN)
    order = [attributions.players.index(name) for name in shown.index]
    error = (
        attributions.values.abs()[:, order].std(0, correction=0) / len(attributions.logits) ** 0.5
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 1.6 + 0.24 * len(shown)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(shown)), shown, xerr=error.numpy(), color=LARGE, ecolor=INK, height=0.7)
        axes.set_yticks(range(len(shown)), shown.index)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.set_xlabel("mean |attribution| to the logit, ± standard error over rows")
        axes.set_title(_explained(attributions, "Which inputs move the prediction", importance))
        return picture(figure)


def _explained(about: Attributions, question: str, importance: pd.Series) -> str:
    facts = about.facts
    left_out = len(importance) - SHOWN
    more = f"; the {left_out} least important are not shown" if left_out > 0 else ""
    return (
        f"{question}\n{facts['method']}; baseline: {facts['baseline']} "
        f"(mean logit {about.baseline_logits.mean():.2f})\n"
        f"{len(about.logits):,} {facts['split']} rows, task {facts['task']}; "
        f"parts miss {about.relative_delta:.1%} of the logit difference{more}"
    )


def neuron_importance(scores: pd.DataFrame, about: Attributions) -> Picture:
    """The mean |conductance| of every unit, ranked, one panel a layer.

    Args:
        scores: neuron scores, see `artifacts.Table`.
        about: the attributions of the same rows from the same baseline.
    """
    layers = list(dict.fromkeys(scores["layer"]))
    columns = min(2, len(layers))
    rows = -(-len(layers) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * columns, 2.5 * rows + 0.9), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, layer in zip(panels, layers, strict=False):
            _layer_panel(axes, layer, scores[scores["layer"] == layer])
        for axes in panels[len(layers) :]:
            axes.set_visible(False)
        figure.suptitle(
            "Which neurons carry the prediction: mean |conductance| of each unit, ranked\n"
            f"{about.facts['neurons']}; baseline: {about.facts['baseline']}; "
            f"{len(about.logits):,} {about.facts['split']} rows, task {about.facts['task']}\n"
            "shaded: silent units, those without conductance on any of these rows for any task",
            x=0.01,
            ha="left",
            fontsize=11,
        )
        return picture(figure)


def _layer_panel(axes: Axes, layer: str, scores: pd.DataFrame) -> None:
    ranked = scores.sort_values(["mean_abs", "max_abs"], ascending=False)
    size = ranked["mean_abs"].to_numpy()
    alive = int((ranked["max_abs"] > 0).sum())
    axes.bar(np.arange(len(size)), size, width=1.0, color=LARGE)
    if alive < len(size):
        axes.axvspan(alive - 0.5, len(size) - 0.5, color=SILENT, alpha=0.25, lw=0)
    axes.set_xlim(-0.5, len(size) - 0.5)
    axes.set_ylim(bottom=0)
    moving = ranked["name"][size > 0].head(3)
    best = ", ".join(name.removeprefix(layer) for name in moving) or "none"
    axes.set_title(f"{layer}: {len(size) - alive} of {len(size)} silent", fontsize=10)
    axes.set_xlabel(f"rank; first: {best}", fontsize=8)
    axes.tick_params(labelsize=8)


def before_and_after(
    metrics: Mapping[str, float],
    shown: Sequence[str],
    plan: PrunePlan,
    certificate: Certificate,
) -> Picture:
    """Quality and size of the model as trained and of the pruned one.

    Args:
        metrics: as in `metrics.json`.
        shown: the test metrics that the left panel compares, without their prefix.
        plan: what was cut.
        certificate: what the cut changed.
    """
    with mpl.rc_context(STYLE):
        bars = max(len(plan.layers), 2 * len(shown))
        figure = Figure(figsize=(9, 2.6 + 0.22 * bars), layout="constrained")
        quality, size = figure.subplots(1, 2, width_ratios=[2, 3])
        _quality_panel(quality, metrics, shown)
        _size_panel(size, plan)
        figure.suptitle(_cut_title(metrics, plan, certificate), x=0.01, ha="left", fontsize=11)
        return picture(figure)


def _cut_title(metrics: Mapping[str, float], plan: PrunePlan, certificate: Certificate) -> str:
    rows = sum(certificate.rows.values())
    proof = (
        f"equal on all {rows:,} rows: largest |Δlogit| {certificate.max_abs_logit_difference:.1e}"
        if certificate.exact
        else f"{certificate.rows_changed:,} of {rows:,} rows changed: "
        f"largest |Δlogit| {certificate.max_abs_logit_difference:.2g}"
    )
    return (
        f"What the cut changed: {plan.dropped} of {plan.units} neurons are gone "
        f"(level {plan.level})\n{proof}\n"
        f"parameters: {_change(metrics, 'parameters')}; without the embedding table: "
        f"{_change(metrics, 'tower_parameters')}"
    )


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
        axes.bar_label(bars, fmt="%.4f", fontsize=7, padding=2)
    axes.set_yticks(places, shown)
    axes.invert_yaxis()
    axes.set_xlabel("on the test split")
    axes.margins(x=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
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


def picture(figure: Figure) -> Picture:
    """The figure as PNG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # Without its version note, the same picture has the same bytes.
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return Picture(buffer.getvalue())

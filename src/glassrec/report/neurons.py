"""The pictures of neurons: which carry the prediction, and what they do over rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from glassrec.artifacts import Explanation
from glassrec.report.effects import ranked
from glassrec.report.rows import evenly, patches
from glassrec.report.style import APART, INK, LARGE, REST, SILENT, drawn, heading, short, subtitle

ROWS = 150
"""Rows beside each other; of more, single ones cannot be seen."""

DEFINED = (
    "silent: no effect on any of these rows, for any task; never positive: negative on some rows "
    "and zero on the others; always negative: on every row"
)
"""What the words of the panels' titles mean."""


@drawn
def neuron_importance(scores: pd.DataFrame, about: Explanation) -> Figure:
    """The mean size of what every unit does, ranked, one panel a layer.

    Args:
        scores: one row a unit: layer, name, mean_abs, mean_abs_low, mean_abs_high, max_abs,
            positive_share and negative_share.
        about: what was explained and how.
    """
    layers = list(dict.fromkeys(scores["layer"]))
    columns = min(2, len(layers))
    rows = -(-len(layers) // columns)
    figure = Figure(figsize=(max(6.5, 4.6 * columns), 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, layer in zip(panels, layers, strict=False):
        _layer_panel(axes, layer, ranked(scores[scores["layer"] == layer]))
        axes.set_ylabel(f"mean |{measure(about)}|", fontsize=8)
    for axes in panels[len(layers) :]:
        axes.set_visible(False)
    heading(
        figure,
        "Which neurons carry the prediction?",
        *subtitle(about, neurons=True),
        f"each unit stands at its rank; band: the 95 % interval; red: silent units; {DEFINED}",
    )
    return figure


def measure(about: Explanation) -> str:
    """What the numbers of neurons are, without settings: `conductance`."""
    return about.neurons.split(",")[0]


def silent_and_never_positive(scores: pd.DataFrame) -> tuple[int, int]:
    """How many units are silent, and how many never positive; see `DEFINED`."""
    never = (scores["positive_share"] == 0) & (scores["negative_share"] > 0)
    return int((scores["max_abs"] == 0).sum()), int(never.sum())


def counted(scores: pd.DataFrame) -> str:
    """How many units are silent and how many never positive, in words."""
    silent, never = silent_and_never_positive(scores)
    always = (scores["negative_share"] == 1).sum()
    return (
        f"{len(scores)} units: {silent} silent, {never} never positive ({always} always negative)"
    )


def _layer_panel(axes: Axes, layer: str, scores: pd.DataFrame) -> None:
    size = scores["mean_abs"].to_numpy(float)
    alive = int((scores["max_abs"] > 0).sum())
    edges = np.arange(len(size) + 1) + 0.5
    axes.stairs(size, edges, fill=True, color=LARGE)
    low, high = scores["mean_abs_low"], scores["mean_abs_high"]
    axes.stairs(high, edges, baseline=low, fill=True, color=INK, alpha=0.3)
    if alive < len(size):
        axes.axvspan(alive + 0.5, len(size) + 0.5, color=SILENT, alpha=0.25, lw=0)
    axes.set_xlim(0.5, len(size) + 0.5)
    axes.set_ylim(bottom=0)
    moving = scores["name"][size > 0].head(3)
    best = ", ".join(short(name.removeprefix(layer), 14) for name in moving) or "none"
    axes.set_title(f"{layer}\n{counted(scores)}", fontsize=9)
    axes.set_xlabel(f"rank; strongest: {best}", fontsize=8)


@drawn
def neurons_over_rows(
    values: Tensor, logits: Tensor, names: Sequence[str], about: Explanation
) -> Figure:
    """What the strongest units of a layer do, stacked in each row.

    Args:
        values: (N, U) of each unit in each row, as the table of neurons sums up over rows.
        logits: (N,) the logits of the rows.
        names: of the U units.
        about: what was explained and how.
    """
    rows = evenly(logits, ROWS)
    order = values.abs().mean(0).nan_to_num().argsort(descending=True, stable=True)
    parts = values[rows][:, order].double().numpy()
    strongest = [names[unit] for unit in order[: len(APART)].tolist()]
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    stack, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _stack(stack, parts, len(strongest))
    edges = np.arange(len(rows) + 1) - 0.5
    below.stairs(logits[rows].double().numpy(), edges, baseline=None, color=INK)
    stack.set_ylabel(measure(about))
    below.set_ylabel("logit")
    below.set_xlabel("rows, by their logits")
    below.set_xticks([])
    below.set_xlim(edges[0], edges[-1])
    figure.legend(handles=patches(strongest, len(names)), loc="outside lower left", ncols=6)
    heading(
        figure,
        "Do the same neurons carry every prediction?",
        *subtitle(about, neurons=True),
        f"{len(rows)} of these rows; what is positive is stacked up from zero, what is negative "
        "down; black: the sum of all units",
    )
    return figure


def _stack(axes: Axes, parts: np.ndarray, named: int) -> None:
    """Parts (R, U), the strongest units first, upwards from zero and downwards by their signs."""
    edges = np.arange(len(parts) + 1) - 0.5
    for signed in (parts.clip(min=0), parts.clip(max=0)):
        pooled = np.column_stack([signed[:, :named], signed[:, named:].sum(1)])
        tops = pooled.cumsum(1)
        for top, part, colour in zip(tops.T, pooled.T, [*APART[:named], REST], strict=True):
            axes.stairs(top, edges, baseline=top - part, fill=True, color=colour)
    axes.stairs(parts.sum(1), edges, baseline=None, color=INK, lw=1.2)
    axes.axhline(0, color=INK, lw=0.8)

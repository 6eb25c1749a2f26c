"""The figure of the steps of a history, on average and in single rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from glassrec.artifacts import Attributions, Explanation
from glassrec.report.formatting import STEP, minus, ordinal
from glassrec.report.primitives import MAX_WRITTEN, colour_bar, heat_map
from glassrec.report.style import DIVERGING, INK, LARGE, SMALL, figure, set_title, subtitle

MAX_EXAMPLES = 9
"""Single rows in a figure."""

DARK = -0.6
"""The share of the largest below which a diverging cell needs white letters."""


def evenly_spaced(logits: Tensor, most: int) -> Tensor:
    """Rows at evenly spaced ranks of their logits, the lowest first."""
    return logits.argsort(stable=True)[_evenly(len(logits), most)]


def _evenly(count: int, most: int) -> Tensor:
    places = np.linspace(0, count - 1, min(most, count)).round().astype(int)
    return torch.from_numpy(places)


def by_size(values: Tensor) -> np.ndarray:
    """The places of the features or neurons of values (N, P), the most important first."""
    return values.abs().mean(0).nan_to_num().argsort(descending=True, stable=True).numpy()


class HistorySteps(NamedTuple):
    """The attributions of the T steps of N histories, newest last."""

    ago: list[int]
    """(T,): 1 is the newest"""
    values: Tensor
    """(N, T): summed over embedding dimensions, where those are the features"""
    real: Tensor
    """(N, T): false where there is padding"""

    @property
    def names(self) -> list[str]:
        """`last`, `2nd last`, …; where there are many, a few of them."""
        every = max(1, -(-len(self.ago) // MAX_WRITTEN))
        return [ordinal(ago) if (ago - 1) % every == 0 else "" for ago in self.ago]


def explains_steps(features: Sequence[str]) -> bool:
    """Whether steps of a history are among the features."""
    return any(STEP.fullmatch(name) for name in features)


@figure
def time_steps(
    sample: Attributions, history: Tensor, about: Explanation, importance: pd.DataFrame
) -> Figure:
    """The mean |attribution| of each step with its standard error, and some single rows.

    `sample` has attributions to steps, and perhaps to other features; `history` (N, T) are the
    histories of its rows, 0 = padding; `importance` may have attention to steps.
    """
    steps = attributions_of_steps(sample, history)
    drawing = Figure(figsize=(min(13.0, 7.5 + 0.35 * len(steps.ago)), 4.6), layout="constrained")
    mean, examples = drawing.subplots(1, 2, width_ratios=[2, 3])
    _step_means(mean, steps)
    if "attention" in importance:
        weights, control = importance.set_index("player")["attention"], mean.twinx()
        control.plot(weights[[f"history[-{n}]" for n in steps.ago]].to_numpy(), ".-", color=SMALL)
        control.set(ylabel="mean attention of the last step (line), a control", ylim=(0, None))
    _step_examples(drawing, examples, steps, sample.logits)
    set_title(
        drawing,
        "Which past interactions move the prediction?",
        *subtitle(about),
        f"this figure shows {len(sample.logits):,} of these rows",
    )
    return drawing


def attributions_of_steps(sample: Attributions, history: Tensor) -> HistorySteps:
    """The attributions (N, T) of the steps among the features."""
    found = [STEP.fullmatch(name) for name in sample.features]
    of_feature = [int(match[1]) if match else 0 for match in found]
    length = max(of_feature)
    # One more column, which is dropped, for the features that are no steps.
    sums = torch.zeros(len(sample.values), length + 1, dtype=sample.values.dtype)
    sums.index_add_(1, torch.tensor([length - ago for ago in of_feature]), sample.values)
    return HistorySteps([*range(length, 0, -1)], sums[:, :length], history[:, -length:] != 0)


def _step_means(axes: Axes, steps: HistorySteps) -> None:
    rows = steps.real.sum(0).clamp_min(1)
    size = steps.values.abs()
    mean = size.sum(0) / rows
    deviation = (((size - mean) ** 2 * steps.real).sum(0) / rows).sqrt()
    error = (deviation / rows.sqrt()).numpy()
    places = np.arange(len(steps.ago))
    axes.bar(places, mean.numpy(), yerr=error, color=LARGE, ecolor=INK, width=0.8)
    axes.set_xticks(places, steps.names, rotation=45, ha="right", fontsize=8)
    axes.set_ylabel(
        "mean |attribution| to the logit\n± standard error, over rows that have the step"
    )
    axes.set_xlabel("step of the history, newest on the right")
    axes.set_title("On average")


def _step_examples(drawing: Figure, axes: Axes, steps: HistorySteps, logits: Tensor) -> None:
    """Rows evenly spaced by the rank of the sum over their steps."""
    totals = steps.values.sum(1)
    chosen = totals.argsort(descending=True)[_evenly(len(totals), MAX_EXAMPLES)]
    cells = np.where(steps.real[chosen].numpy(), steps.values[chosen].numpy(), np.nan)
    largest = float(np.nanmax(abs(cells), initial=0) or 1)
    rows = [
        minus(f"history {totals[row]:+.2f}, logit {logits[row]:.2f}") for row in chosen.tolist()
    ]
    readable = len(steps.ago) <= MAX_WRITTEN
    image = heat_map(
        axes, cells, DIVERGING, Normalize(-largest, largest),
        rows=rows, columns=steps.names, rotation=45, white=lambda value: value < DARK * largest,
        format_cell=(lambda v: "" if np.isnan(v) else minus(f"{v:+z.2f}")) if readable else None,
    )  # fmt: skip
    axes.set_title("In single rows, from most raised to most lowered")
    axes.set_xlabel("step of the history; grey: the user had none yet")
    colour_bar(drawing, image, "attribution to the logit", ax=axes, pad=0.01, aspect=30)

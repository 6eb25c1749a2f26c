"""The picture of which past interactions move the prediction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from glassrec.artifacts import Attributions, Explanation
from glassrec.report.style import (
    DARK_BELOW,
    DOWN_AND_UP,
    FAINT,
    INK,
    LARGE,
    drawn,
    heading,
    minus,
    subtitle,
)

EXAMPLES = 9
"""Single rows that are shown, from the most raised by its history to the most lowered."""

READABLE = 12
"""Steps up to which every cell has its number and every step its name."""

_STEP = re.compile(r"history\[-(\d+)\](\[\d+\])?")


class Steps(NamedTuple):
    """The attributions of the T steps of N histories, newest last."""

    ago: list[int]
    """(T,): 1 is the newest"""
    values: Tensor
    """(N, T): summed over embedding dimensions, where those are the players"""
    real: Tensor
    """(N, T): false where there is padding"""

    @property
    def names(self) -> list[str]:
        """`last`, `2nd last`, …; where there are many, a few of them."""
        every = max(1, -(-len(self.ago) // READABLE))
        return [_ordinal(ago) if (ago - 1) % every == 0 else "" for ago in self.ago]


def explains_steps(players: Sequence[str]) -> bool:
    """Whether steps of a history are among the players."""
    return any(_STEP.fullmatch(name) for name in players)


@drawn
def time_steps(sample: Attributions, history: Tensor, about: Explanation) -> Figure:
    """The mean |attribution| of each step with its standard error, and some single rows.

    Args:
        sample: attributions of some of the explained rows to steps, and perhaps to other players.
        history: (N, T) the histories of those rows, 0 = padding.
        about: what was explained and how.
    """
    steps = _steps(sample, history)
    width = min(13.0, 7.5 + 0.35 * len(steps.ago))
    figure = Figure(figsize=(width, 4.6), layout="constrained")
    mean, examples = figure.subplots(1, 2, width_ratios=[2, 3])
    _mean_panel(mean, steps)
    _examples_panel(figure, examples, steps, sample.logits)
    heading(
        figure,
        "Which past interactions move the prediction?",
        *subtitle(about),
        f"the picture is of {len(sample.logits):,} of these rows",
    )
    return figure


def _steps(about: Attributions, history: Tensor) -> Steps:
    found = [_STEP.fullmatch(name) for name in about.players]
    of_player = [int(match[1]) if match else 0 for match in found]
    length = max(of_player)
    ago = [*range(length, 0, -1)]
    # One more column, which is dropped, for the players that are no steps.
    sums = torch.zeros(len(about.values), length + 1, dtype=about.values.dtype)
    sums.index_add_(1, torch.tensor([length - a for a in of_player]), about.values)
    return Steps(ago, sums[:, :length], history[:, -length:] != 0)


def _mean_panel(axes: Axes, steps: Steps) -> None:
    """Over the rows that have the step."""
    rows = steps.real.sum(0)
    size = steps.values.abs()
    mean = size.sum(0) / rows.clamp_min(1)
    spread = (((size - mean) ** 2 * steps.real).sum(0) / rows.clamp_min(1)).sqrt()
    places = np.arange(len(steps.ago))
    error = (spread / rows.clamp_min(1).sqrt()).numpy()
    axes.bar(places, mean.numpy(), yerr=error, color=LARGE, ecolor=INK, width=0.8)
    _name_steps(axes, steps)
    axes.set_ylabel(
        "mean |attribution| to the logit\n± standard error, over rows that have the step"
    )
    axes.set_xlabel("step of the history, newest on the right")
    axes.set_title("On average")


def _examples_panel(figure: Figure, axes: Axes, steps: Steps, logits: Tensor) -> None:
    """Rows at even places of the order of what their histories contribute."""
    totals = steps.values.sum(1)
    places = np.linspace(0, len(totals) - 1, min(EXAMPLES, len(totals))).round().astype(int)
    chosen = totals.argsort(descending=True)[torch.from_numpy(places)]
    shown = np.ma.masked_array(steps.values[chosen].numpy(), ~steps.real[chosen].numpy())
    largest = float(abs(shown).max() or 1)
    axes.set_facecolor(FAINT)
    image = axes.imshow(shown, DOWN_AND_UP, vmin=-largest, vmax=largest, aspect="auto")
    axes.set_yticks(
        range(len(chosen)),
        [minus(f"history {totals[row]:+.2f}, logit {logits[row]:.2f}") for row in chosen.tolist()],
        fontsize=8,
    )
    _name_steps(axes, steps)
    if len(steps.ago) <= READABLE:
        for (row, step), value in np.ndenumerate(shown.filled(np.nan)):
            text = "" if np.isnan(value) else minus(f"{value:+z.2f}")
            colour = "white" if value < DARK_BELOW * largest else INK
            axes.text(step, row, text, ha="center", va="center", fontsize=8, color=colour)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("In single rows, from most raised to most lowered")
    axes.set_xlabel("step of the history; grey: the user had none yet")
    bar = figure.colorbar(image, ax=axes, label="attribution to the logit", pad=0.01, aspect=30)
    bar.outline.set_visible(False)


def _name_steps(axes: Axes, steps: Steps) -> None:
    axes.set_xticks(range(len(steps.ago)), steps.names, rotation=45, ha="right", fontsize=8)


def _ordinal(ago: int) -> str:
    """`last`, `2nd last`, `11th last`, `22nd last`."""
    if ago == 1:
        return "last"
    ends = {1: "st", 2: "nd", 3: "rd"}
    end = "th" if 10 <= ago % 100 <= 20 else ends.get(ago % 10, "th")
    return f"{ago}{end} last"

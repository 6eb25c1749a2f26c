"""The picture of a training: loss and quality over the epochs, and the epoch that is kept."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glassrec.metrics import merit, sign
from glassrec.report.style import INK, LARGE, SMALL, drawn, heading


@drawn
def learning_curve(history: pd.DataFrame, monitor: str) -> Figure:
    """The training loss and the metric that chose the epoch.

    Args:
        history: one row an epoch: epoch, train/loss and metrics of the validation split.
        monitor: the metric, a column such as `val/auroc`.
    """
    best = kept(history, monitor)
    figure = Figure(figsize=(7.5, 2.9), layout="constrained")
    loss, quality = figure.subplots(1, 2)
    _line(loss, history, "train/loss", LARGE, best)
    _line(quality, history, monitor, SMALL, best)
    better = "less" if sign(monitor) < 0 else "more"
    loss.set_title("Loss on the training rows (less is better)")
    quality.set_title(
        f"{monitor.removeprefix('val/')} on the validation split ({better} is better)"
    )
    heading(figure, f"How did training go? Epoch {history['epoch'].iloc[best]} is kept")
    return figure


def kept(history: pd.DataFrame, monitor: str) -> int:
    """The place of the epoch that is best on the validation split, the first among equals."""
    merits = [merit(monitor, value) for value in history[monitor]]
    return merits.index(max(merits))


def _line(axes: Axes, history: pd.DataFrame, name: str, colour: str, best: int) -> None:
    epochs, values = history["epoch"], history[name]
    axes.plot(epochs, values, "o-", color=colour, ms=4, lw=2)
    axes.plot(
        epochs.iloc[best],
        values.iloc[best],
        "o",
        ms=11,
        mfc="none",
        mec=INK,
        mew=1.5,
        clip_on=False,
    )
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.06, y=0.12)

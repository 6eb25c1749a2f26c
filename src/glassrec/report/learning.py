"""The picture of a training: loss and quality over the epochs, and the epoch that is kept."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glassrec.metrics.metadata import best_index, sign
from glassrec.report.style import INK, LARGE, SMALL, drawn, heading


@drawn
def learning_curve(history: pd.DataFrame, monitor: str) -> Figure:
    """The training loss and the metric that chose the epoch.

    Args:
        history: one row an epoch: epoch, train/loss and metrics of the validation split. Epoch 0,
            trained weights to start from, has no loss.
        monitor: the metric, a column such as `val/auroc`.
    """
    kept = best_index(monitor, history[monitor])
    figure = Figure(figsize=(7.5, 2.9), layout="constrained")
    loss, quality = figure.subplots(1, 2)
    _line(loss, history, "train/loss", LARGE, kept)
    _line(quality, history, monitor, SMALL, kept)
    better = "less" if sign(monitor) < 0 else "more"
    loss.set_title("Loss on the training rows (less is better)")
    quality.set_title(
        f"{monitor.removeprefix('val/')} on the validation split ({better} is better)"
    )
    heading(figure, f"How did training go? Epoch {history['epoch'].iloc[kept]} is kept")
    return figure


def _line(axes: Axes, history: pd.DataFrame, name: str, colour: str, kept: int) -> None:
    epochs, values = history["epoch"], history[name]
    axes.plot(epochs, values, "o-", color=colour, ms=4, lw=2)
    axes.plot(
        epochs.iloc[kept],
        values.iloc[kept],
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

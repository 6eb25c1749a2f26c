"""The figure of all cuts of a run: quality on both splits against the share of pruned neurons."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from glassrec.metrics.metadata import direction
from glassrec.report.formatting import metric_name
from glassrec.report.style import INK, LARGE, SMALL, figure, set_title

SPLITS = {"val": ("validation", LARGE, "o", -0.004), "test": ("test", SMALL, "s", 0.004)}
"""Name, colour, marker and the offset that keeps the bars of both apart."""


@figure
def cuts_compared(frame: pd.DataFrame, monitor: str, mode: str | None = None) -> Figure:
    """The metric `monitor` of each cut on validation and test, a panel for each importance score.

    `frame` is that of `cut_table`. Narrow, so that it can be read on a phone.
    """
    names = [name for name in frame["score"].unique() if name] or [""]
    drawing = Figure(figsize=(3.7, 0.9 + 2.1 * len(names)), layout="constrained")
    panels = drawing.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    labels: dict[str, Any] = {}
    for axes, name in zip(panels, names, strict=True):
        _panel(axes, frame[frame["score"].isin([name, ""])], monitor)  # exact cuts have no score
        axes.set_title(f"ranked by {name}" if name else "")
        artists, words = axes.get_legend_handles_labels()
        labels |= dict(zip(words, artists, strict=True))
    panels[-1].set_xlabel("share of all neurons that is pruned")
    panels[-1].xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    drawing.legend([*labels.values()], [*labels], loc="outside lower left", ncols=2)
    better = f"{metric_name(monitor)}: {direction(monitor, mode)}; bars: 95 % intervals"
    set_title(drawing, "What does each cut cost?", better)
    return drawing


def _panel(axes: Axes, frame: pd.DataFrame, monitor: str) -> None:
    metric, frame = monitor.removeprefix("val/"), frame.sort_values("neurons", kind="stable")
    for split, (name, colour, marker, offset) in SPLITS.items():
        before, after = frame[f"{split}/{metric}"], frame[f"pruned/{split}/{metric}"]
        # Paired, as changes are; a metric of the user's own has no interval.
        low, high = (
            before + frame.get(f"pruned/{split}/{metric}_change_{end}", after - before)
            for end in ("low", "high")
        )
        look: dict[str, Any] = {"color": colour, "marker": marker, "ms": 4, "lw": 1.8}
        lengths = (after - low).clip(0), (high - after).clip(0)
        axes.errorbar(frame["neurons"] + offset, after, lengths, label=f"{name}, pruned", **look)
        dashes: dict[str, Any] = {"lw": 1, "ls": (0, (4, 3)), "zorder": 1}
        axes.axhline(before.iloc[0], color=colour, label=f"{name}, as trained", **dashes)
    best = frame[frame["best"]]
    if len(best):  # an empty line would spoil the layout
        ring: dict[str, Any] = {"ms": 11, "mfc": "none", "mec": INK, "label": "best on validation"}
        axes.plot(best["neurons"] + SPLITS["val"][3], best[f"pruned/{monitor}"], "o", **ring)
    axes.set_ylabel(metric_name(monitor))
    axes.set_xlim(left=-0.02)

"""The beeswarm: the attributions of many rows, coloured by the values of the features."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea, VPacker

from glassrec.artifacts import Attributions, Explanation
from glassrec.data.schema import TaskKind
from glassrec.report.formatting import number_text, shorten
from glassrec.report.primitives import label_rows, logit_name, value_text, zero_line
from glassrec.report.row_figures import by_size, evenly_spaced
from glassrec.report.style import GREY, INK, LOW_TO_HIGH, QUALITATIVE, figure, set_title, subtitle

MAX_FEATURES, MAX_DOTS = 15, 400
"""Features and rows of the figure; more dots would hide each other."""

MAX_COLOURED = 6
"""Values of a field up to which each has a colour of its own."""

ENDS = 0.05, 0.95
"""The quantiles of a numeric feature at which its colours end, so that few rows do not fade all."""

PLACES = 120
"""Places across the panel; dots of one place are set above each other."""

Key = list[list[tuple[str, Any]]]
"""Lines of words beside a feature, each with its colour: how its dots are coloured."""


@figure
def beeswarm(
    sample: Attributions, values: pd.DataFrame, about: Explanation, kind: TaskKind = "click"
) -> Figure:
    """A dot per row of a sample (N) for each of the most important features.

    `values` (N rows) has the value of each feature that has one, see `decode`.
    """
    # In a heap, and where dots hide each other, the order says nothing.
    rows = evenly_spaced(sample.logits, MAX_DOTS).numpy()
    rows = np.random.default_rng(0).permutation(rows)
    moving = int(sample.values.any(0).sum())
    shown = by_size(sample.values)[: min(MAX_FEATURES, max(1, moving))]
    names = [sample.features[place] for place in shown]
    drawing = Figure(figsize=(8.5, max(2.4, 1.2 + 0.4 * len(shown))), layout="constrained")
    axes = drawing.subplots()
    sizes = sample.values.double().numpy()[rows][:, shown]
    lines = np.arange(sizes.shape[1]) + stacked_offsets(sizes)
    for place, name in enumerate(names):
        colours, key = dot_colours(values.get(name), rows)
        axes.scatter(sizes[:, place], lines[:, place], 8, colours, linewidths=0)
        _write_key(axes, place, key)
    zero_line(axes)
    label_rows(axes, names)
    axes.set_xlabel(f"attribution to the {logit_name(kind)}: left lowers it, right raises it")
    set_title(
        drawing,
        "Which values raise the prediction, and which lower it?",
        *subtitle(about),
        f"a dot is one of {len(rows)} of these rows; {len(shown)} of {len(sample.features):,} "
        "inputs, the most important first; its colour is the row's value of the input, from low to "
        "high or by name; grey: missing, or too many names for colours",
    )
    return drawing


def dot_colours(values: pd.Series | None, rows: np.ndarray) -> tuple[np.ndarray, Key]:
    """The colours (R, 4) of the dots of `rows`, and their key, given a feature's values (N,).

    Numbers go from low to high between the quantiles `ENDS`. Up to `MAX_COLOURED` names have a
    colour each; dots of more, or without values, are grey.
    """
    if values is None:
        return np.tile(to_rgba(GREY), (len(rows), 1)), [[("not one column", GREY)]]
    if pd.api.types.is_numeric_dtype(values) and values.notna().any():
        low, high = np.nanquantile(values, ENDS)
        shares = ((values.to_numpy()[rows] - low) / ((high - low) or 1)).clip(0, 1)
        colours = np.where(np.isnan(shares)[:, None], to_rgba(GREY), LOW_TO_HIGH(shares))
        scale = [("■", LOW_TO_HIGH(share)) for share in np.linspace(0, 1, 5)]
        ends = (number_text(low), INK), (number_text(high), INK)
        return colours, [[ends[0], *scale, ends[1]]]
    texts = values.map(value_text)
    names = sorted(texts.unique())
    if len(names) > MAX_COLOURED:
        return np.tile(to_rgba(GREY), (len(rows), 1)), [[(f"{len(names):,} values", GREY)]]
    colour_of = dict(zip(names, QUALITATIVE, strict=False))
    words = [[("●", colour_of[name]), (shorten(name, 12), INK)] for name in names]
    lines = [[*chain(*words[at : at + 3])] for at in range(0, len(words), 3)]
    return np.array([to_rgba(colour_of[text]) for text in texts.iloc[rows]]), lines


def _write_key(axes: Axes, place: int, key: Key) -> None:
    """The key at the right of a line."""
    words = [[TextArea(t, textprops={"color": c, "fontsize": 8}) for t, c in line] for line in key]
    lines: list[Artist] = [HPacker(children=[*line], pad=0, sep=3) for line in words]
    look: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "box_alignment": (0, 0.5)}
    box = VPacker(children=lines, pad=0, sep=1)
    axes.add_artist(
        AnnotationBbox(box, (1.02, place), frameon=False, pad=0, annotation_clip=False, **look)
    )


def stacked_offsets(values: np.ndarray) -> np.ndarray:
    """Offsets within ±0.4 for values (N, P) that set those of a column apart where they crowd."""
    known = values[~np.isnan(values)]
    low, high = known.min(initial=0), known.max(initial=0)
    bins = np.round((values - low) / ((high - low) or 1) * PLACES)
    long = pd.DataFrame(bins).melt(var_name="feature", value_name="bin")
    heaps = long.groupby(["feature", "bin"], dropna=False)["bin"]
    count = heaps.transform("size")
    place = heaps.cumcount() - (count - 1) / 2
    highest = count.groupby(long["feature"]).transform("max")
    step = np.minimum(0.07, 0.8 / highest)
    return (place * step).to_numpy().reshape(values.shape[::-1]).T

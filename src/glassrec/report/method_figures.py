"""Figures that compare attribution methods: quality and cost, agreement, and faithfulness."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from glassrec.artifacts import Explanation
from glassrec.report.formatting import format_value, shorten
from glassrec.report.primitives import colour_bar, format_correlation, heat_map, line
from glassrec.report.row_figures import DARK
from glassrec.report.style import (
    DIVERGING,
    INK,
    QUALITATIVE,
    REST,
    SEQUENTIAL,
    figure,
    sample_subtitle,
    set_title,
)

COLUMNS = (
    ("delta", "completeness\nerror", True),
    ("deletion_gap", "deletion gain\nover random order", False),
    ("insertion_gap", "insertion gain\nover random order", False),
    ("infidelity", "infidelity", True),
    ("sensitivity", "sensitivity", True),
    ("randomisation", "correlation with a\nrandomised model", True),
    ("agreement", "agreement of\ntwo seeds", False),
    ("truth_precision", "true effects\non top", False),
    ("main_precision", "main effects\non top", False),
    ("truth_correlation", "rank correlation\nwith the truth", False),
    ("seconds", "seconds per\n1,000 rows", True),
)
"""Column, its heading, and whether lower is better."""

PALE_UNTIL = 0.4
"""The share of the largest above which a sequential cell needs white letters."""

CURVES = {"deletion": "a good order falls early", "insertion": "a good order rises early"}


class MethodColumn(NamedTuple):
    """A column of the figure of methods."""

    values: pd.Series
    text: str
    lower_is_better: bool


def method_columns(table: pd.DataFrame) -> list[MethodColumn]:
    """The columns that the table has and that at least one method has a value of."""
    known = table.assign(
        deletion_gap=table["deletion"] - table["deletion_random"],
        insertion_gap=table["insertion"] - table["insertion_random"],
    )
    found = [MethodColumn(known[name], text, low) for name, text, low in COLUMNS if name in known]
    return [column for column in found if column.values.notna().any()] or found


@figure
def methods_table(table: pd.DataFrame, rows: int, about: Explanation) -> Figure:
    """Measures of each method on `rows` explained rows, shaded by their order in each column.

    `table` has a row per method: name, problem (why it cannot explain this model; empty if it can),
    deletion, insertion, deletion_random, insertion_random, and others of `COLUMNS`.
    """
    shown = method_columns(table)
    values = np.column_stack([column.values for column in shown])
    size = 3.2 + 1.12 * len(shown), 1.3 + 0.36 * len(table)
    drawing = Figure(figsize=size, layout="constrained")
    axes = drawing.subplots()
    shades = np.column_stack([_share_beaten(column) for column in shown])
    columns = [f"{c.text}\n({'lower' if c.lower_is_better else 'higher'} is better)" for c in shown]
    heat_map(
        axes, shades, SEQUENTIAL, Normalize(0, 2), rotation=0, background=REST, size=8.5,
        rows=[shorten(name, 56) for name in table["name"]], columns=columns,
    )  # fmt: skip
    for row, problem in enumerate(table["problem"]):
        if problem:
            axes.text(-0.4, row, shorten(problem, 15 * len(shown)), va="center", fontsize=8)
            continue
        for column, value in enumerate(values[row]):
            ink = "white" if shades[row, column] > 0.7 else INK
            axes.text(column, row, format_value(value), ha="center", va="center", color=ink)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    set_title(
        drawing,
        "Which method can be trusted, and what does it cost?",
        *sample_subtitle(about, rows),
        "darker: better than more of the other methods in this column; grey: does not apply",
    )
    return drawing


def _share_beaten(column: MethodColumn) -> np.ndarray:
    """The share of the other methods that each is better than, ties halved; NaN stays."""
    order = column.values.rank(ascending=not column.lower_is_better).to_numpy(float)
    return (order - 1) / max(1, column.values.notna().sum() - 1)


@figure
def methods_agreement(correlations: pd.DataFrame, rows: int, about: Explanation) -> Figure:
    """The rank correlation of any two methods on `rows` explained rows.

    `correlations` has first, second and correlation, each two methods once or both ways round.
    """
    names = list(dict.fromkeys([*correlations["first"], *correlations["second"]]))
    half = correlations.pivot(index="first", columns="second", values="correlation")
    half = half.reindex(index=names, columns=names)
    cells = half.fillna(half.T).to_numpy(float, copy=True)
    np.fill_diagonal(cells, np.nan)
    side = 0.55 * len(names)
    drawing = Figure(figsize=(max(6.5, 3 + side), 1.8 + side), layout="constrained")
    axes = drawing.subplots()
    labels = [_method_name(name) for name in names]
    opposed = bool((cells < 0).any())  # two colours only where there are two sides
    image = heat_map(
        axes, cells, DIVERGING if opposed else SEQUENTIAL, Normalize(-1 if opposed else 0, 1),
        rows=labels, columns=labels, rotation=45, aspect="equal", format_cell=format_correlation,
        white=lambda value: value < DARK if opposed else value > PALE_UNTIL, size=8.5,
    )  # fmt: skip
    for text in [*axes.texts]:
        if text.get_position()[0] == text.get_position()[1]:  # a method agrees with itself
            text.remove()
    label = "rank correlation of the attributions\nof a row, mean over rows"
    colour_bar(drawing, image, label, ax=axes, pad=0.02, aspect=30)
    set_title(drawing, "Do the methods agree?", *sample_subtitle(about, rows))
    return drawing


def _method_name(method: str) -> str:
    return shorten(method.replace("_", " "))


@figure
def faithfulness_curves(curves: pd.DataFrame, rows: int, about: Explanation) -> Figure:
    """The mean logit as inputs are replaced, or restored, in each method's order.

    `curves` has method, kind (deletion or insertion), order (method or random), share (of the
    features that were replaced or restored) and mean_logit, measured on `rows` rows.
    """
    drawing = Figure(figsize=(10, 4.2), layout="constrained")
    panels = drawing.subplots(1, 2, sharey=True)
    for axes, (kind, hint) in zip(panels, CURVES.items(), strict=True):
        own = curves[curves["kind"] == kind]
        random = own[own["order"] == "random"].groupby("share")["mean_logit"].mean()
        axes.plot(random, color=REST, lw=4, label="random order")
        methods = own[own["order"] == "method"].groupby("method", sort=False)
        for at, (method, one) in enumerate(methods):
            style = ("-", "--", ":")[at // len(QUALITATIVE) % 3]
            colour = QUALITATIVE[at % len(QUALITATIVE)]
            line(axes, one["share"], one["mean_logit"], color=colour, ls=style, lw=1.5,
                 label=_method_name(str(method)))  # fmt: skip
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_title(f"{kind.capitalize()}: {hint}")
        axes.set_xlabel(f"inputs {'replaced' if kind == 'deletion' else 'restored'}")
    panels[0].set_ylabel("mean logit")
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=4)
    set_title(
        drawing,
        "Does the prediction follow the inputs that a method calls important?",
        *sample_subtitle(about, rows),
        "order: from the input with the largest positive attribution to the one with the largest "
        "negative one; a replaced input has the value of another row",
    )
    return drawing

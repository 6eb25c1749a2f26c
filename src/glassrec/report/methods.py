"""The pictures that compare methods: what each costs and is worth, and where they agree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from glassrec.artifacts import Explanation
from glassrec.report.style import (
    APART,
    DARK_BELOW,
    DOWN_AND_UP,
    FAINT,
    INK,
    REST,
    UP,
    digits,
    drawn,
    heading,
    minus,
    short,
    without_method,
)


@drawn
def methods_agreement(correlations: pd.DataFrame, rows: int, about: Explanation) -> Figure:
    """How alike any two methods rank the players.

    Args:
        correlations: first, second and correlation, each two methods once or both ways round.
        rows: how many of the explained rows were taken.
        about: what was explained; its method is of no matter here.
    """
    names = list(dict.fromkeys([*correlations["first"], *correlations["second"]]))
    half = correlations.pivot(index="first", columns="second", values="correlation")
    half = half.reindex(index=names, columns=names)
    cells = half.fillna(half.T).to_numpy(float, copy=True)
    np.fill_diagonal(cells, np.nan)
    side = 0.55 * len(names)
    figure = Figure(figsize=(max(6.5, 3 + side), 1.8 + side), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(FAINT)
    image = axes.imshow(cells, cmap=DOWN_AND_UP, vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(cells):
        if row != column:
            text = "–" if np.isnan(value) else minus(f"{value:.2f}")
            ink = "white" if value < DARK_BELOW else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    labels = [_called(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(
        image,
        ax=axes,
        label="rank correlation of a row's\nparts, mean over rows",
        pad=0.02,
        aspect=30,
    )
    bar.outline.set_visible(False)
    heading(figure, "Do the methods agree?", *without_method(about, rows))
    return figure


def _called(method: str) -> str:
    """A method's key as words."""
    return short(method.replace("_", " "))


class Column(NamedTuple):
    """A column of the picture of methods."""

    values: pd.Series
    text: str
    lower_is_better: bool


def columns(table: pd.DataFrame) -> list[Column]:
    """What the picture of methods shows: what the table has and at least one method knows."""
    found = table.assign(
        deletion_gap=table["deletion"] - table["deletion_random"],
        insertion_gap=table["insertion"] - table["insertion_random"],
    )
    held = [Column(found[name], text, lower) for name, text, lower in COLUMNS if name in found]
    return [column for column in held if column.values.notna().any()] or held


COLUMNS = (
    ("delta", "parts miss of\nthe difference", True),
    ("deletion_gap", "deletion: beyond\nrandom order by", False),
    ("insertion_gap", "insertion: beyond\nrandom order by", False),
    ("infidelity", "infidelity", True),
    ("sensitivity", "sensitivity", True),
    ("randomisation", "correlation with a\nrandom model's", True),
    ("agreement", "agreement of\ntwo seeds", False),
    ("truth_precision", "planted effects\non top", False),
    ("main_precision", "main effects\non top", False),
    ("truth_correlation", "rank correlation\nwith the truth", False),
    ("seconds", "seconds per\n1,000 rows", True),
)
"""Column, what it says, and whether less of it is better."""


@drawn
def methods_table(table: pd.DataFrame, rows: int, about: Explanation) -> Figure:
    """What each method is worth: numbers, shaded by their order in each column.

    Args:
        table: one row a method: name, problem (why it cannot explain this model; empty if it can),
            deletion, insertion, deletion_random, insertion_random, and any others of `COLUMNS`.
        rows: how many of the explained rows were taken.
        about: what was explained; its method is of no matter here.
    """
    shown = columns(table)
    values = np.column_stack([column.values for column in shown])
    figure = Figure(
        figsize=(3.2 + 1.12 * len(shown), 1.3 + 0.36 * len(table)), layout="constrained"
    )
    axes = figure.subplots()
    axes.set_facecolor(REST)
    places = np.column_stack([_better_than(column) for column in shown])
    axes.imshow(places, cmap=UP, vmin=0, vmax=2, aspect="auto")
    _write(axes, table["problem"], values, places)
    axes.set_yticks(range(len(table)), [short(name, 56) for name in table["name"]])
    axes.set_xticks(
        range(len(shown)),
        [f"{c.text}\n({'lower' if c.lower_is_better else 'higher'} is better)" for c in shown],
        fontsize=8,
    )
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    heading(
        figure,
        "Which method can be trusted, and what does it cost?",
        *without_method(about, rows),
        "the darker, the better among the methods of the column; grey: does not apply",
    )
    return figure


def _write(axes: Axes, problems: pd.Series, values: np.ndarray, places: np.ndarray) -> None:
    """Each number into its cell, or why a method has none."""
    for row, problem in enumerate(problems):
        if problem:
            axes.text(-0.4, row, short(problem, 15 * values.shape[1]), va="center", fontsize=8)
            continue
        for column, value in enumerate(values[row]):
            ink = "white" if places[row, column] > 0.7 else INK
            axes.text(column, row, digits(value), ha="center", va="center", color=ink)


def _better_than(column: Column) -> np.ndarray:
    """The share of the other methods that each is better than, ties halved; NaN stays."""
    order = column.values.rank(ascending=not column.lower_is_better).to_numpy(float)
    return (order - 1) / max(1, column.values.notna().sum() - 1)


@drawn
def faithfulness_curves(curves: pd.DataFrame, rows: int, about: Explanation) -> Figure:
    """How the logit moves as inputs are replaced, or put back, in each method's order.

    Args:
        curves: method, kind (deletion or insertion), order (method or random), share (of the
            players that were replaced or put back) and mean_logit.
        rows: how many of the explained rows were taken.
        about: what was explained; its method is of no matter here.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (kind, does) in zip(panels, KINDS.items(), strict=True):
        _curves(axes, curves[curves["kind"] == kind])
        axes.set_title(f"{kind.capitalize()}: {does}")
        axes.set_xlabel(f"inputs {'replaced' if kind == 'deletion' else 'put back'}")
    panels[0].set_ylabel("mean logit")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=4)
    heading(
        figure,
        "Does the prediction follow the inputs that a method calls important?",
        *without_method(about, rows),
        "inputs go from the one that raises a row's logit most to the one that lowers it most; "
        "one that is gone has the value of another data row",
    )
    return figure


KINDS = {"deletion": "a good order falls early", "insertion": "a good order rises early"}
"""The two curves, and how to read them."""


def _curves(axes: Axes, curves: pd.DataFrame) -> None:
    random = curves[curves["order"] == "random"].groupby("share")["mean_logit"].mean()
    axes.plot(random, color=REST, lw=4, label="random order")
    ordered = curves[curves["order"] == "method"]
    for at, (method, one) in enumerate(ordered.groupby("method", sort=False)):
        colour, line = APART[at % len(APART)], ("-", "--", ":")[at // len(APART) % 3]
        axes.plot(
            one["share"], one["mean_logit"], line, color=colour, lw=1.5, label=_called(str(method))
        )
    axes.xaxis.set_major_formatter(PercentFormatter(1))

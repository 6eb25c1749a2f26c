"""What all pictures share: colours, headings, names, and how a figure becomes bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from math import isnan
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import imsave
from matplotlib.textpath import text_to_path

if TYPE_CHECKING:
    from glassrec.artifacts import Explanation, Picture

INK, LARGE, SMALL, SILENT = "#22303c", "#2f6f9f", "#e08e45", "#c3423f"
"""Text; the model as trained; the model after the cut; units that do nothing."""

PALE, REST, FAINT = "#b3cbdc", "#c3cad0", "#e9edf0"
"""What could be chance; what has no colour of its own; cells without a value."""

APART = (
    "#332288", "#ddaa33", "#117733", "#cc6677", "#88ccee",
    "#882255", "#44aa99", "#999933", "#aa4499",
)  # fmt: skip
"""Colours for many things at once that the colour-blind tell apart (after Paul Tol's `muted`)."""

UP = LinearSegmentedColormap.from_list("up", ["#f1f4f6", LARGE, "#163a54"])
DOWN_AND_UP = LinearSegmentedColormap.from_list("down and up", [LARGE, "#ffffff", SMALL])
DARK_BELOW = -0.6
"""The share of the largest from which on `DOWN_AND_UP` wants white letters; orange never does."""

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.edgecolor": "#8794a0",
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": INK,
    "ytick.labelsize": 8.5,
    # A dollar sign in a column's name is a dollar sign.
    "text.parse_math": False,
}

DPI = 130
"""Dots an inch of every picture."""

QUESTION, FACTS = FontProperties(size=12, weight="bold"), FontProperties(size=9)
"""The letters of a heading; sizes in points."""

P = ParamSpec("P")


def drawn(draw: Callable[P, Figure]) -> Callable[P, Picture]:
    """Make of a function that draws a figure one that returns its picture, in the shared style."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with mpl.rc_context(STYLE):
            return picture(draw(*args, **kwargs))

    return in_style


def picture(figure: Figure) -> Picture:
    """The figure as PNG; equal figures give equal bytes."""
    # Pages of many runs take colours from here, and need not wait for PyTorch.
    from glassrec.artifacts import Picture

    figure.set_dpi(DPI)
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()  # once, where `savefig` draws twice
    # Without its version note, the same picture has the same bytes.
    silent: Any = {"Software": None}
    imsave(buffer, canvas.buffer_rgba(), format="png", dpi=DPI, metadata=silent)
    return Picture(buffer.getvalue())


def heading(figure: Figure, question: str, *facts: str) -> None:
    """Write the question and what its answer rests on into room added above the panels."""
    width, height = figure.get_size_inches()
    asked = _wrapped(question, width, QUESTION)
    told = [line for fact in facts for line in _wrapped(fact, width, FACTS)]
    fonts = (asked, QUESTION), (told, FACTS)
    points = [1.25 * len(lines) * font.get_size_in_points() for lines, font in fonts]
    total = height + (sum(points) + 12) / 72
    figure.set_size_inches(width, total)
    layout = figure.get_layout_engine()
    assert layout is not None, "headings are for figures with a constrained layout"
    layout.set(rect=(0, 0, 1, height / total), w_pad=0.08, h_pad=0.06)  # type: ignore[call-arg]
    for lines, font, top in ((asked, QUESTION, 6), (told, FACTS, 9 + points[0])):
        place = 0.1 / width, 1 - top / 72 / total
        figure.text(*place, "\n".join(lines), fontproperties=font, va="top")


def _wrapped(text: str, inches: float, font: FontProperties) -> list[str]:
    """Lines that fit into the width; a single word may be longer."""
    lines = [""]
    # Letters fitted to pixels are a little wider than their outlines.
    most = 0.95 * (inches - 0.1) * 72
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        points, _, _ = text_to_path.get_text_width_height_descent(longer, font, ismath=False)
        if points <= most:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def subtitle(about: Explanation, *, neurons: bool = False) -> tuple[str, ...]:
    """What a heading says of an explanation: method, baseline, rows, and how far to trust it.

    Args:
        about: the explanation.
        neurons: whether the picture is of neurons, whose method is another.
    """
    baseline, rows = _where(about)
    if neurons:
        return f"{about.neurons}; {baseline}", rows
    return f"{about.method}; {baseline}", rows, "; ".join(_trust(about))


def without_method(about: Explanation, rows: int) -> tuple[str, ...]:
    """The baseline and the rows, for pictures of several methods or of none.

    Args:
        about: the explanation.
        rows: how many of its rows the picture is of.
    """
    return *_where(about), f"measured on {rows:,} of these rows"


def _where(about: Explanation) -> tuple[str, str]:
    """The baseline, and the rows."""
    at_baseline, mean = minus(f"{about.mean_baseline_logit:.2f}"), minus(f"{about.mean_logit:.2f}")
    return (
        f"baseline: {about.baseline} (its mean logit: {at_baseline})",
        f"{about.selection} (N = {about.rows:,}; mean logit: {mean}), task {about.task}",
    )


def _trust(about: Explanation) -> list[str]:
    """How far the parts add up, and what would be the same another time."""
    trust = [
        f"the parts miss {about.relative_delta:.1%} of the logit difference"
        + ("" if about.trusted else ", more than is tolerated: NOT TRUSTED")
        if about.complete
        else "the parts of this method need not add up to the logit difference"
    ]
    if about.agreement is not None:
        agreement = minus(f"{about.agreement:.2f}")
        trust.append(f"rank correlation of two seeds: {agreement}")
    return [*trust, *stability(about.rank_stability)]


def stability(correlation: float) -> list[str]:
    """Whether other rows would rank alike; nothing where that is not known."""
    if isnan(correlation):
        return []
    return [f"rank correlation between subsets of the rows: {minus(f'{correlation:.2f}')}"]


def minus(number: str) -> str:
    """A number with a minus sign as long as the plus."""
    return number.replace("-", "−")


def digits(value: float) -> str:
    """A number of any size in few letters; a dash if it is none."""
    return "–" if isnan(value) else minus(f"{value:.3g}")


def short(name: str, letters: int = 26) -> str:
    """A name that fits beside a panel; a long one loses its middle."""
    kept = letters - 1
    return name if len(name) <= letters else f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}"

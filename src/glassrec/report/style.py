"""The look that all figures share, the title above them, and how a figure becomes PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.image import imsave
from matplotlib.textpath import text_to_path

from glassrec.report.formatting import minus
from glassrec.report.statements import trust

if TYPE_CHECKING:  # pages of many runs take colours from here, and need no PyTorch
    from glassrec.artifacts import Explanation, Picture

INK, LARGE, SMALL, ALERT = "#22303c", "#2f6f9f", "#e08e45", "#c3423f"
"""Text; the model as trained; the pruned model; neurons with zero attribution."""

PALE, REST, FAINT, GREY = "#b3cbdc", "#c3cad0", "#e9edf0", "#7b8a96"
"""Not significant; without a colour of its own; cells without a value; labels of what is pale."""

QUALITATIVE = (
    "#332288", "#ddaa33", "#117733", "#cc6677", "#88ccee",
    "#882255", "#44aa99", "#999933", "#aa4499",
)  # fmt: skip
"""Colours that are safe for colour-blind readers (after Paul Tol's `muted`)."""


_colour_map = LinearSegmentedColormap.from_list
SEQUENTIAL = _colour_map("sequential", ("#f1f4f6", LARGE, "#163a54"))
SEQUENTIAL_SMALL = _colour_map("sequential small", ("#f1f4f6", SMALL, "#8f4d14"))
DIVERGING = _colour_map("diverging", (LARGE, "#ffffff", SMALL))
LOW_TO_HIGH = _colour_map("low to high", mpl.colormaps["plasma"](np.linspace(0, 0.8, 64)))

FONTS = (
    "DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "Microsoft YaHei",
    "Noto Emoji",
)  # fmt: skip
"""Fonts for the names of all languages, of which those are used that are installed."""

STYLE: dict[Any, Any] = {
    "font.family": [name for name in FONTS if name in {font.name for font in fontManager.ttflist}],
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
"""Dots per inch of every figure."""

TITLE, SUBTITLE = FontProperties(size=12, weight="bold"), FontProperties(size=9)

P = ParamSpec("P")


def figure(draw: Callable[P, Figure]) -> Callable[P, Picture]:
    """Decorate a function that draws a figure: it gets the shared style and returns a PNG."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with mpl.rc_context(STYLE):
            return to_png(draw(*args, **kwargs))

    return in_style


def to_png(drawing: Figure) -> Picture:
    """The figure as PNG; equal figures give equal bytes."""
    from glassrec.artifacts import Picture

    drawing.set_dpi(DPI)
    canvas, buffer = FigureCanvasAgg(drawing), io.BytesIO()
    with warnings.catch_warnings():
        # A letter that no installed font has is a box; a warning for each would flood the output.
        warnings.filterwarnings("ignore", "Glyph")
        canvas.draw()  # once, where `savefig` draws twice
    # Without its version note, the same figure has the same bytes.
    no_version: Any = {"Software": None}
    imsave(buffer, canvas.buffer_rgba(), format="png", dpi=DPI, metadata=no_version)
    return Picture(buffer.getvalue())


def set_title(drawing: Figure, title: str, *facts: str) -> None:
    """Write a title, and below it what it rests on, into room added above the panels."""
    width, height = drawing.get_size_inches()
    lines = _wrapped(title, width, TITLE)
    more = [line for fact in facts if fact for line in _wrapped(fact, width, SUBTITLE)]
    fonts = (lines, TITLE), (more, SUBTITLE)
    points = [1.25 * len(text) * font.get_size_in_points() for text, font in fonts]
    total = height + (sum(points) + 12) / 72
    drawing.set_size_inches(width, total)
    layout = drawing.get_layout_engine()
    assert layout is not None, "titles are for figures with a constrained layout"
    layout.set(rect=(0, 0, 1, height / total), w_pad=0.08, h_pad=0.06)  # type: ignore[call-arg]
    for text, font, top in ((lines, TITLE, 6), (more, SUBTITLE, 9 + points[0])):
        place = 0.1 / width, 1 - top / 72 / total
        drawing.text(*place, "\n".join(text), fontproperties=font, va="top")


def _wrapped(text: str, inches: float, font: FontProperties) -> list[str]:
    """Lines that fit into the width; a single word may be longer."""
    lines = [""]
    # Letters fitted to pixels are a little wider than their outlines.
    available = 0.95 * (inches - 0.1) * 72
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        points, _, _ = text_to_path.get_text_width_height_descent(longer, font, ismath=False)
        if points <= available:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def subtitle(about: Explanation) -> tuple[str, ...]:
    """The facts of an explanation: method, baseline, rows, and how far it can be trusted."""
    baseline, rows = _rows(about)
    return f"{about.method}; {baseline}", rows, "; ".join(trust(about))


def neuron_subtitle(about: Explanation) -> tuple[str, ...]:
    """The same for neurons, which are explained by a method of their own."""
    baseline, rows = _rows(about)
    return f"{about.neurons}; {baseline}", rows


def sample_subtitle(about: Explanation, rows: int) -> tuple[str, ...]:
    """Baseline and rows, for figures of several methods or of none, measured on `rows` rows."""
    return *_rows(about), f"measured on {rows:,} of these rows"


def _rows(about: Explanation) -> tuple[str, str]:
    at_baseline, mean = minus(f"{about.mean_baseline_logit:.2f}"), minus(f"{about.mean_logit:.2f}")
    return (
        f"baseline: {about.baseline} (its mean logit: {at_baseline})",
        f"{about.selection} (N = {about.rows:,}; mean logit: {mean}), task {about.task}",
    )

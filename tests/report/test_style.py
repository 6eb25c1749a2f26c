"""What headings say, and how figures become bytes."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from glassrec.report.formatting import format_value, shorten
from glassrec.report.style import figure, neuron_subtitle, sample_subtitle, set_title, subtitle


def test_a_subtitle_says_how_far_to_trust(about) -> None:
    assert subtitle(about) == (
        "integrated gradients, 32 steps; baseline: mean (its mean logit: −2.50)",
        "2,000 of 6,000 val rows at random (N = 2,000; mean logit: −1.25), task click",
        "completeness error: 3.1 % of the logit difference; "
        "rank correlation between subsets of the rows: 0.97",
    )
    sampled = replace(about, complete=False, agreement=-0.24, rank_stability=nan)
    assert subtitle(sampled)[2] == (
        "this method does not claim completeness; rank correlation of two seeds: −0.24"
    )


def test_neurons_have_a_method_of_their_own_and_many_methods_none(about) -> None:
    first, *rest = neuron_subtitle(about)
    assert first.startswith("conductance, 16 steps; baseline: mean")
    assert rest == [subtitle(about)[1]]
    assert not any("gradients" in line for line in sample_subtitle(about, 5))
    assert sample_subtitle(about, 1234)[-1] == "measured on 1,234 of these rows"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("C14", "C14"), ("x" * 26, "x" * 26), (f"begin{'x' * 30}end", "beginxxxxxxxx…xxxxxxxxxend")],
)
def test_a_long_name_loses_its_middle(name: str, shown: str) -> None:
    assert shorten(name) == shown
    assert len(shown) <= 26


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (-2e-9, "−2e−09"), (nan, "–"), (0.0, "0")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert format_value(value) == text


def test_equal_figures_have_equal_bytes_and_the_style_stays_inside() -> None:
    @figure
    def empty(question: str) -> Figure:
        figure = Figure(figsize=(3, 1), layout="constrained")
        figure.subplots()
        set_title(figure, question)
        return figure

    before = dict(mpl.rcParams)
    assert empty("Why $?").content.startswith(b"\x89PNG")
    assert empty("Why $?") == empty("Why $?")
    assert empty("Why?") != empty("Why not?")
    assert dict(mpl.rcParams) == before


def test_a_heading_makes_its_own_room() -> None:
    figure = Figure(figsize=(4, 2), layout="constrained")
    axes = figure.subplots()
    set_title(figure, "A question?", "a long fact " * 20, "a short one")
    figure.draw_without_rendering()
    texts = [text.get_window_extent() for text in figure.texts]
    assert min(box.y0 for box in texts) >= axes.get_tightbbox().y1
    assert max(box.x1 for box in texts) <= figure.bbox.x1
    assert max(box.y1 for box in texts) <= figure.bbox.y1
    assert figure.get_figheight() > 2.8

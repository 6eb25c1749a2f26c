"""The picture of which inputs move the prediction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from glassrec.report.input_figures import feature_importance
from glassrec.report.style import LARGE, PALE

pytestmark = pytest.mark.filterwarnings("error")

IMPORTANCE = pd.DataFrame(
    {
        "player": ["a", "b", "c"],
        "mean_abs": [0.2, 3.0, 1.0],
        "mean_abs_low": [0.1, 2.5, 0.75],
        "mean_abs_high": [0.4, 3.25, 1.5],
        "mean": [0.2, -2.0, 0.0],
    }
)


def test_any_players_can_be_drawn(case, drawn, statistics, about) -> None:
    names, values = case
    frame = statistics(values).assign(player=names, q_value=np.nan)
    feature_importance(frame, about)
    feature_importance(frame.assign(q_value=np.linspace(0, 1, len(names))), about)


def test_bars_intervals_and_marks_are_those_of_the_table(drawn, about) -> None:
    feature_importance(IMPORTANCE, about)
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "c", "a"]
    assert [bar.get_width() for bar in axes.patches] == [3, 1, 0.2]
    segments = axes.collections[0].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in segments], [[2.5, 3.25], [0.75, 1.5], [0.1, 0.4]])
    (marks,) = (line for line in axes.lines if line.get_label() == "signed mean")
    assert list(marks.get_xdata()) == [-2, 0, 0.2]
    assert axes.yaxis_inverted()


def test_what_is_not_told_from_chance_is_pale(drawn, about) -> None:
    feature_importance(IMPORTANCE.assign(q_value=[np.nan, 0.049, 0.05]), about)
    (axes,) = drawn[0].axes
    colours = {bar.get_width(): to_hex(bar.get_facecolor()) for bar in axes.patches}
    assert colours == {3: LARGE, 1: PALE, 0.2: PALE}


@pytest.mark.parametrize(
    ("q_values", "bars"),
    [([0.01, 0.01, 0.9], [LARGE, PALE]), ([0, 0, 0], [LARGE]), ([1, 1, 1], [PALE])],
)
def test_the_legend_shows_the_bars_that_there_are(q_values, bars, drawn, about) -> None:
    feature_importance(IMPORTANCE.assign(q_value=q_values), about)
    (legend,) = drawn[0].legends
    assert [to_hex(patch.get_facecolor()) for patch in legend.get_patches()] == bars


def test_the_heading_says_how_and_of_what_and_how_many_are_left_out(
    drawn, told, statistics, about
) -> None:
    values = np.arange(1.0, 44)[None]
    feature_importance(statistics(values).assign(player=[f"p{i}" for i in range(43)]), about)
    text = told(drawn[0])
    for fact in (
        "Which inputs", "integrated gradients, 32 steps", "mean (its mean logit: −2.50)",
        "2,000 of 6,000 val rows", "N = 2,000", "task click", "completeness error: 3.1%",
        "the 3 least important of 43 are not shown",
    ):  # fmt: skip
        assert fact in text
    assert len(drawn[0].axes[0].patches) == 40

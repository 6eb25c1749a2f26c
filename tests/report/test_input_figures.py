"""Figures of inputs: importance, interactions, selections and removals."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from glassrec.report.input_figures import feature_importance, feature_pairs, removals, selections
from glassrec.report.style import LARGE, PALE, REST, SMALL

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
        "2,000 of 6,000 val rows", "N = 2,000", "task click", "completeness error: 3.1 %",
        "the 3 least important of 43 are not shown",
    ):  # fmt: skip
        assert fact in text
    assert len(drawn[0].axes[0].patches) == 40


def _pairs(features: int, **columns: float) -> pd.DataFrame:
    names = list(combinations([f"F{i}" for i in range(features)], 2))
    frame = pd.DataFrame(names, columns=["first", "second"])
    # The last features interact most.
    return frame.assign(mean_abs=np.arange(1.0, len(names) + 1), **columns)


def _cells(axes) -> dict[tuple[str, str], float]:
    """What a heat map shows, by the labels of its row and column."""
    rows = [label.get_text() for label in axes.get_yticklabels()]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    values = np.ma.filled(axes.images[0].get_array(), np.nan)
    return {
        (row, column): values[i, j]
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
        if not np.isnan(values[i, j])
    }


def test_every_pair_is_shown_once_the_strongest_features_first(drawn, told, about) -> None:
    table = _pairs(5)
    feature_pairs(table.sample(frac=1, random_state=0), 7, about)
    (axes,) = drawn[0].axes
    cells = _cells(axes)
    assert len(cells) == len(table)
    for _, pair in table.iterrows():
        both = {(pair["first"], pair["second"]), (pair["second"], pair["first"])}
        assert [cells[names] for names in both & cells.keys()] == [pair["mean_abs"]]
    sums = {n: sum(v for pair, v in cells.items() if n in pair) for pair in cells for n in pair}
    order = [label.get_text() for label in axes.get_xticklabels()]
    assert order == sorted(sums, key=sums.__getitem__, reverse=True)[:-1]
    assert sorted(float(text.get_text()) for text in axes.texts) == sorted(table["mean_abs"])
    title = told(drawn[0])
    assert "baseline: mean" in title
    assert "measured on 7 of these rows" in title


def test_the_models_own_view_stands_beside_in_the_same_order(drawn, told, about) -> None:
    feature_pairs(_pairs(4, weight_norm=2.5), 7, about)
    left, right = drawn[0].axes
    assert _cells(left).keys() == _cells(right).keys()
    assert {*_cells(right).values()} == {2.5}


def test_of_many_features_the_strongest_are_shown(drawn, told, about) -> None:
    feature_pairs(_pairs(33), 7, about)
    (axes,) = drawn[0].axes
    names = {name for pair in _cells(axes) for name in pair}
    assert len(names) == 30
    assert not axes.texts
    assert "the 3 that interact least are not shown" in told(drawn[0])


def test_features_that_do_not_interact_can_be_drawn(drawn, told, about) -> None:
    feature_pairs(_pairs(3).assign(mean_abs=0.0), 7, about)
    assert {*_cells(drawn[0].axes[0]).values()} == {0}


@pytest.fixture
def against(about):
    return replace(about, selection="the 497 val rows with a score above 0.999", rows=497)


def test_any_players_can_be_compared(case, drawn, statistics, about, against) -> None:
    names, values = case
    one = statistics(values)[["mean_abs", "mean"]].assign(rank=range(len(names)))
    frame = pd.concat([one, 2 * one.add_suffix("_against")], axis=1).assign(
        player=names, difference=-one["mean_abs"], difference_low=-1.0, difference_high=np.nan
    )
    selections(frame, about, against)


def test_both_are_shown_and_the_larger_has_its_colour(drawn, told, about, against) -> None:
    frame = pd.DataFrame(
        {
            "player": ["a", "b", "c"],
            "mean_abs": [1.0, 2, 3],
            "mean_abs_against": [4.0, 1, 3],
            "mean": [-1.0, 0, 1],
            "mean_against": [1.0, 1, 1],
            "rank": [3, 2, 1],
            "rank_against": [1.0, 3, np.nan],
            "difference": [-3.0, 1, 0],
            "difference_low": [-4.0, 0.5, -1],
            "difference_high": [-2.0, 2, 1],
        }
    )
    selections(frame, about, against)
    size, signed, difference = drawn[0].axes
    labels = [label.get_text() for label in size.get_yticklabels()]
    assert labels == ["a  3 → 1", "c  1 → –", "b  2 → 3"]
    _, one, other = size.collections
    assert one.get_offsets()[:, 0].tolist() == [1, 3, 2]
    assert other.get_offsets()[:, 0].tolist() == [4, 3, 1]
    assert signed.collections[1].get_offsets()[:, 0].tolist() == [-1, 1, 0]
    assert [bar.get_width() for bar in difference.patches] == [-3, 0, 1]
    assert [to_hex(bar.get_facecolor()) for bar in difference.patches] == [SMALL, REST, LARGE]
    ends = [segment[:, 0].tolist() for segment in difference.collections[0].get_segments()]
    assert ends == [[-4, -2], [-1, 1], [0.5, 2]]
    assert "blue: 2,000 of 6,000 val rows" in told(drawn[0])
    assert "orange: the 497 val rows with a score above 0.999 (N = 497" in told(drawn[0])


def test_what_is_left_without_a_kind_stands_below_all(drawn, about) -> None:
    frame = pd.DataFrame(
        [
            ("dense", "baseline", 0.9, 0.125, 2.0, -1.5),
            ("history", "data row", 0.9, 0.0, 2.0, -0.5),
        ],
        columns=[
            "removed", "replacement", "positive_before", "positive_after", "mean_logit_before",
            "mean_logit_after",
        ],
    )  # fmt: skip
    removals(frame, 200, about)
    positive, logit = drawn[0].axes
    assert [bar.get_width() for bar in positive.patches] == [0.9, 0.125, 0]
    assert [text.get_text() for text in positive.texts] == ["90.0%", "12.5%", "0.0%"]
    assert [text.get_text() for text in logit.texts] == ["2.00", "−1.50", "−0.50"]
    assert [label.get_text() for label in positive.get_yticklabels()] == [
        "all inputs unchanged", "all dense columns at the baseline", "the history of another row",
    ]  # fmt: skip
    # Where every prediction is positive, as of ratings, the first panel would say nothing.
    removals(frame.assign(positive_before=1.0, positive_after=1.0), 200, about)
    (logit,) = drawn[1].axes
    assert [text.get_text() for text in logit.texts] == ["2.00", "−1.50", "−0.50"]
    assert logit.get_yticklabels()[2].get_text() == "the history of another row"

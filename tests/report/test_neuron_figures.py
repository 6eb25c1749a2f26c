"""The pictures of neurons."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from glassrec.report.neuron_figures import (
    count_text,
    layer_neurons,
    neuron_importance,
)

pytestmark = pytest.mark.filterwarnings("error")

VALUES = np.array([[0.0, -1, -1, 2, 0], [0, -2, 0, -5, 0], [0, -3, 0, 1, 4]])
"""Of three rows: zero, always negative, never positive, both, positive."""


@pytest.fixture
def scores(statistics):
    def of(layer: str, names: list[str], values: np.ndarray) -> pd.DataFrame:
        units = {"layer": layer, "position": range(len(names)), "unit": range(len(names))}
        frame = pd.concat([pd.DataFrame(units).assign(name=names), statistics(values)], axis=1)
        return frame.assign(rank_stability=0.875)

    return of


def test_any_layers_can_be_drawn(case, drawn, scores, about) -> None:
    names, values = case
    layers = [
        scores("bottom.0", names, values),
        scores("a_layer_of_a_very_long_name", names, values),
    ]
    neuron_importance(pd.concat(layers), about)
    neuron_importance(layers[0], about)


def test_any_layer_can_be_drawn(case, drawn, scores, about) -> None:
    names, values = case
    layer_neurons(scores("top.0", names, values), about)


def test_zero_and_negative_neurons_are_counted(scores) -> None:
    words = count_text(scores("top", list("abcde"), VALUES))
    assert words == "5 neurons: 1 zero, 2 never positive (1 always negative)"


def test_neurons_stand_at_their_rank_and_zero_ones_are_shaded(drawn, told, scores, about) -> None:
    frame = scores("top", [f"top[{unit}]" for unit in range(5)], VALUES)
    neuron_importance(frame, about)
    (axes,) = drawn[0].axes
    sizes, band = (patch.get_data() for patch in axes.patches[:2])
    np.testing.assert_allclose(sizes.values, np.sort(frame["mean_abs"])[::-1])
    np.testing.assert_allclose(band.baseline, np.sort(frame["mean_abs_low"])[::-1])
    np.testing.assert_allclose(band.values, np.sort(frame["mean_abs_high"])[::-1])
    shaded = axes.patches[2].get_bbox()
    assert (shaded.x0, shaded.x1) == (4.5, 5.5)
    assert "1 zero" in axes.get_title(loc="left")
    assert axes.get_ylabel() == "mean |conductance|"
    assert axes.get_xlabel() == "rank; strongest: [3], [1], [4]"
    assert "conductance, 16 steps; baseline: mean" in told(drawn[0])


def _cells(axes) -> dict[tuple[str, str], float]:
    """What a heat map shows, by the labels of its row and column."""
    rows = [label.get_text() for label in axes.get_yticklabels()]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    cells = np.ma.filled(axes.images[0].get_array(), np.nan)
    return {
        (column, row): cells[i, j]
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
        if not np.isnan(cells[i, j])
    }


def test_pairs_are_a_triangle_and_the_others_a_strip(drawn, told, scores, about) -> None:
    vectors = ["dense", "C1", "C2", "C3"]
    pairs = [f"{vectors[j]}×{vectors[i]}" for i in range(4) for j in range(i)]
    values = np.arange(8.0)[None]  # dense[0] is zero
    frame = scores("interaction", ["dense[0]", "dense[1]", *pairs], values)
    layer_neurons(frame, about)
    panels = {axes.get_title(loc="left"): axes for axes in drawn[0].axes}
    triangle, strip = panels["Pairs"], panels["Single neurons, by their numbers"]
    found = {f"{first}×{second}": value for (first, second), value in _cells(triangle).items()}
    assert found == dict(zip(pairs, range(2, 8), strict=True))
    assert strip.images[0].get_array().tolist() == [[0, 1]]
    assert [bar.get_x() for bar in strip.patches] == [-0.5]
    assert not triangle.patches
    assert [bar.get_width() for bar in panels["The 7 strongest"].patches] == [*range(7, 0, -1)]
    words = told(drawn[0])
    assert "8 neurons: 1 zero, 0 never positive (0 always negative); rank correlation" in words
    assert "rank correlation between subsets of the rows: 0.88" in words
    layer_neurons(frame.assign(rank_stability=np.nan), about)
    assert "rank correlation" not in told(drawn[1])


@pytest.mark.parametrize("largest", [0.179, 0.2001, 0.245, 1.0, 9.9, 1234.0])
def test_the_numbers_of_the_colours_are_apart(largest, drawn, scores, about) -> None:
    frame = scores("interaction", ["a×b", "a×c", "b×c"], np.array([[0.1, 0.5, 1]]) * largest)
    layer_neurons(frame, about)  # `drawn` looks


def test_pruned_pairs_leave_gaps(drawn, scores, about) -> None:
    frame = scores("interaction", ["a×b", "a×c", "b×c", "c×d"], np.arange(1.0, 5)[None])
    layer_neurons(frame, about)
    triangle = next(axes for axes in drawn[0].axes if axes.get_title(loc="left") == "Pairs")
    assert len(_cells(triangle)) == 4
    assert triangle.images[0].get_array().shape == (3, 3)


def test_units_of_a_plain_layer_run_like_text(drawn, scores, about) -> None:
    values = np.arange(70.0)[None]
    layer_neurons(scores("top.1", [f"top.1[{i}]" for i in range(70)], values), about)
    grid = drawn[0].axes[0]
    cells = np.ma.filled(grid.images[0].get_array(), np.nan)
    assert cells.shape == (3, 32)
    np.testing.assert_array_equal(cells.ravel()[:70], np.arange(70))
    assert np.isnan(cells.ravel()[70:]).all()
    rows = [label.get_text() for label in grid.get_yticklabels()]
    assert rows == ["top.1[0]", "top.1[32]", "top.1[64]"]


def test_few_units_are_no_barcode(drawn, scores, about) -> None:
    for count, shape in ((8, (1, 8)), (32, (2, 16))):
        values = np.arange(float(count))[None]
        layer_neurons(scores("top.1", [f"top.1[{i}]" for i in range(count)], values), about)
        assert drawn[-1].axes[0].images[0].get_array().shape == shape

"""The pictures of single rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glassrec.artifacts import Attributions
from glassrec.report.row_figures import (
    attribution_strips,
    evenly_spaced,
    single_rows,
    stacked_offsets,
)

pytestmark = pytest.mark.filterwarnings("error")


def test_any_rows_can_be_drawn(case, drawn, sample, about) -> None:
    single_rows(sample(*case), about)
    attribution_strips(sample(*case), about)


def test_rows_are_taken_at_even_places() -> None:
    logits = torch.tensor([5.0, 1, 4, 2, 3])
    assert evenly_spaced(logits, 3).tolist() == [1, 4, 0]
    assert evenly_spaced(logits, 9).tolist() == [1, 3, 4, 2, 0]


def _bars(axes, lane: float) -> list[tuple[float, float]]:
    """Left and right ends of the bars of the first row's upper (−) or lower (+) lane."""
    found = [
        (bar.get_x(), bar.get_x() + bar.get_width())
        for bar in axes.patches
        if 0 < lane * (bar.get_y() + bar.get_height() / 2) < 0.5 and bar.get_hatch() is None
    ]
    return [(min(ends), max(ends)) for ends in found if ends[0] != ends[1]]


def test_bars_lead_from_the_baseline_to_the_logit(drawn, about) -> None:
    # Eight players: the two least important, 0.25 and −0.125, are pooled by sign.
    parts = torch.tensor([[4.0, -3, 2, -1, 0.5, 0.375, 0.25, -0.125]], dtype=torch.float64)
    start, end = torch.tensor([-1.0]), torch.tensor([-1 + 3.0])
    single_rows(Attributions(tuple("abcdefgh"), parts, end, start, torch.tensor([17]), {}), about)
    (axes,) = drawn[0].axes
    assert sorted(_bars(axes, -1)) == [(-5.125, -5), (-5, -4), (-4, -1)]
    rises = [(-5.125, -1.125), (-1.125, 0.875), (0.875, 1.375), (1.375, 1.75), (1.75, 2)]
    assert sorted(_bars(axes, 1)) == rises
    assert axes.get_yticklabels()[0].get_text() == "row 17: −1.00 → 2.00"
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert legend[:7] == [*"abcdef", "the other 2, pooled by sign"]
    assert "completeness error" not in legend


def test_what_the_parts_miss_is_shown(drawn, about) -> None:
    parts = torch.tensor([[1.0, 0.5]])
    single_rows(
        Attributions(("a", "b"), parts, torch.tensor([4.0]), torch.zeros(1), torch.zeros(1), {}),
        about,
    )
    (missed,) = (bar for bar in drawn[0].axes[0].patches if bar.get_hatch())
    assert (missed.get_x(), missed.get_width()) == (1.5, 2.5)


def test_dots_are_the_attributions_of_the_most_important(drawn, told, sample, about) -> None:
    values = np.random.default_rng(1).normal(size=(30, 20)) * np.arange(1, 21)
    attribution_strips(sample([f"p{i}" for i in range(20)], values), about)
    axes = drawn[0].axes[0]
    order = np.abs(values).mean(0).argsort()[::-1][:15]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"p{i}" for i in order]
    dots = axes.collections[0].get_offsets()
    for place, player in enumerate(order):
        on_line = abs(dots[:, 1] - place) < 0.5
        np.testing.assert_allclose(np.sort(dots[on_line, 0]), np.sort(values[:, player]))
    assert "15 of 20 inputs, the most important first" in told(drawn[0])


def test_the_colour_of_a_dot_is_the_place_of_its_rows_logit(drawn, about) -> None:
    logits = torch.tensor([3.0, 1, 2])
    # With one player, the attribution tells which row a dot is.
    sample = Attributions(("a",), logits[:, None] * 10, logits, 0 * logits, torch.arange(3), {})
    attribution_strips(sample, about)
    dots = drawn[0].axes[0].collections[0]
    places = dict(zip(dots.get_offsets()[:, 0].tolist(), dots.get_array().tolist(), strict=True))
    assert places == {10: 0, 20: 0.5, 30: 1}


def test_crowded_dots_are_set_apart_within_their_line() -> None:
    values = np.column_stack([np.zeros(300), np.linspace(-1, 1, 300), np.full(300, np.nan)])
    offsets = stacked_offsets(values)
    assert offsets.shape == values.shape
    assert np.abs(offsets).max() <= 0.4
    assert len(np.unique(offsets[:, 0])) == 300
    np.testing.assert_allclose(offsets.sum(0), 0, atol=1e-9)
    assert np.abs(offsets[:, 1]).max() < 0.1 + np.abs(offsets[:, 0]).max() / 2

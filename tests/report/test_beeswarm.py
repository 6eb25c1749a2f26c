"""The beeswarm: its dots, their colours and keys."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colormaps
from matplotlib.colors import to_rgba

from glassrec.artifacts import Attributions
from glassrec.report.beeswarm import beeswarm, dot_colours, stacked_offsets
from glassrec.report.style import GREY, QUALITATIVE

pytestmark = pytest.mark.filterwarnings("error")


def test_any_rows_can_be_drawn(case, drawn, sample, about, raw_values) -> None:
    beeswarm(sample(*case), raw_values(*case), about)


def test_dots_are_the_attributions_of_the_most_important(drawn, told, sample, about) -> None:
    values = np.random.default_rng(1).normal(size=(30, 20)) * np.arange(1, 21)
    beeswarm(sample([f"p{i}" for i in range(20)], values), pd.DataFrame(index=range(30)), about)
    axes = drawn[0].axes[0]
    order = np.abs(values).mean(0).argsort()[::-1][:15]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"p{i}" for i in order]
    for place, (dots, feature) in enumerate(zip(axes.collections, order, strict=True)):
        across, down = dots.get_offsets().T
        np.testing.assert_allclose(np.sort(across), np.sort(values[:, feature]))
        assert (abs(down - place) < 0.5).all()
    assert "15 of 20 inputs, the most important first" in told(drawn[0])


def test_a_dot_has_the_colour_of_its_rows_value(drawn, about) -> None:
    # The attribution tells which row a dot is; numbers go from the 5 % to the 95 % quantile.
    prices = np.linspace(0, 100, 41)
    parts = torch.arange(41.0)[:, None] + 1
    logits = parts[:, 0]
    sample = Attributions(("price",), parts, logits, 0 * logits, torch.arange(41), logits)
    beeswarm(sample, pd.DataFrame({"price": prices}), about)
    (dots,) = drawn[0].axes[0].collections
    shares = np.clip((prices - 5) / 90, 0, 1)
    for (across, _), colour in zip(dots.get_offsets(), dots.get_facecolors(), strict=True):
        expected = colormaps["plasma"](0.8 * shares[int(across) - 1])
        np.testing.assert_allclose(colour, expected, atol=0.02)


def test_a_number_has_the_ends_of_its_colours_as_key() -> None:
    colours, key = dot_colours(pd.Series(np.linspace(0, 1000, 101)), np.array([0, 50, 100]))
    assert [text for text, _ in key[0]] == ["50", *"■■■■■", "950"]
    np.testing.assert_allclose(colours[[0, 2]], [key[0][1][1], key[0][5][1]], atol=1e-6)
    some = pd.Series([np.nan, *np.linspace(0, 1000, 101)])
    colours, with_missing = dot_colours(some, np.array([0, 1]))
    assert with_missing == key
    assert tuple(colours[0]) == to_rgba(GREY) != tuple(colours[1])


def test_few_names_have_a_colour_each_and_many_none() -> None:
    few = pd.Series(["b", "a", None, "a"])
    colours, key = dot_colours(few, np.array([3, 2, 0]))
    assert [[text for text, _ in line] for line in key] == [["●", "a", "●", "b", "●", "none"]]
    expected = [to_rgba(QUALITATIVE[place]) for place in (0, 2, 1)]
    assert [tuple(each) for each in colours] == expected
    for values, text in ((pd.Series([*"abcdefg"]), "7 values"), (None, "not one column")):
        colours, key = dot_colours(values, np.arange(7))
        assert {tuple(each) for each in colours} == {to_rgba(GREY)}
        assert key == [[(text, GREY)]]


def test_crowded_dots_are_set_apart_within_their_line() -> None:
    values = np.column_stack([np.zeros(300), np.linspace(-1, 1, 300), np.full(300, np.nan)])
    offsets = stacked_offsets(values)
    assert offsets.shape == values.shape
    assert np.abs(offsets).max() <= 0.4
    assert len(np.unique(offsets[:, 0])) == 300
    np.testing.assert_allclose(offsets.sum(0), 0, atol=1e-9)
    assert np.abs(offsets[:, 1]).max() < 0.1 + np.abs(offsets[:, 0]).max() / 2

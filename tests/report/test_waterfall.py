"""The waterfalls of single rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from glassrec.artifacts import Attributions
from glassrec.report.waterfall import waterfalls

pytestmark = pytest.mark.filterwarnings("error")


def test_any_rows_can_be_drawn(case, drawn, sample, about, raw_values) -> None:
    waterfalls(sample(*case), raw_values(*case), about)
    waterfalls(sample(*case), raw_values(*case), about, "rating")


def _one_row(parts: list[float], start: float, end: float, rows: int = 1) -> Attributions:
    features = tuple("abcdefgh"[: len(parts)])
    values = torch.tensor([parts] * rows, dtype=torch.float64)
    return Attributions(
        features, values, torch.full((rows,), end), torch.full((rows,), start),
        torch.arange(17, 17 + rows), torch.zeros(rows),
    )  # fmt: skip


def test_bars_lead_from_the_baseline_to_the_logit(drawn, told, about) -> None:
    # Eight features: the two least important, 0.25 and −0.125, are one bar.
    parts = [4.0, -3, 2, -1, 0.5, 0.375, 0.25, -0.125]
    values = pd.DataFrame({"a": [91.23], "b": ["Toy Story"], "c": [None]})
    waterfalls(_one_row(parts, -1, 2), values, about)
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "a = 91.23", "b = Toy Story", "c = none", *"def", "2 other features",
    ]  # fmt: skip
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [
        (-1, 4), (3, -3), (0, 2), (2, -1), (1, 0.5), (1.5, 0.375), (1.875, 0.125),
    ]  # fmt: skip
    assert [text.get_text() for text in axes.texts][:2] == ["+4.00", "−3.00"]
    assert axes.get_title(loc="left") == (
        "Only probability, 88.1 %: row 17; 26.9 % at the baseline"
    )


def test_the_upper_axis_has_probabilities_at_their_logits(drawn, about) -> None:
    waterfalls(_one_row([3.0], -1, 2), pd.DataFrame(), about)
    axes, top = drawn[0].axes
    assert top.get_xlim() == axes.get_xlim()
    for place, label in zip(top.get_xticks(), top.get_xticklabels(), strict=True):
        share = float(label.get_text().removesuffix(" %")) / 100
        assert expit(place) == pytest.approx(share)


def test_an_estimate_has_no_probability(drawn, about) -> None:
    waterfalls(_one_row([1.0], 3, 4), pd.DataFrame(), about, "rating")
    (axes,) = drawn[0].axes
    assert axes.get_xlabel() == "estimate"
    assert axes.get_title(loc="left") == "Only estimate, 4: row 17; 3 at the baseline"


def test_what_the_attributions_miss_is_shown(drawn, about) -> None:
    waterfalls(_one_row([1.0, 0.5], 0, 4), pd.DataFrame(), about)
    (missed,) = (bar for bar in drawn[0].axes[0].patches if bar.get_hatch())
    assert (missed.get_x(), missed.get_width()) == (1.5, 2.5)


def test_three_rows_are_the_highest_the_median_and_the_lowest(drawn, sample, about) -> None:
    parts = np.array([[5.0], [-3], [1], [0], [2]])
    waterfalls(sample(["a"], parts), pd.DataFrame(), about)
    titles = [axes.get_title(loc="left") for axes in drawn[0].axes]
    found = [title.split(";")[0].split(": row ") for title in titles if title]
    assert [(title.split()[0], int(row)) for title, row in found] == [
        ("Highest", 0), ("Median", 2), ("Lowest", 1),
    ]  # fmt: skip

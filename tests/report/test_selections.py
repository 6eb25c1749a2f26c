"""The pictures of two selections, and of whole kinds of inputs gone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from glassrec.report.input_figures import removals, selections
from glassrec.report.style import LARGE, REST, SMALL

pytestmark = pytest.mark.filterwarnings("error")


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

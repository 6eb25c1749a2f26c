"""The picture of pairs: what it orders, leaves out and shows."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from glassrec.report.input_figures import feature_pairs

pytestmark = pytest.mark.filterwarnings("error")


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

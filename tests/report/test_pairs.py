"""The picture of pairs: what it orders, leaves out and shows."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import image
from matplotlib.figure import Figure

from glassrec.artifacts import Attributions
from glassrec.report import pairs as module
from glassrec.report.pairs import feature_pairs

ABOUT = Attributions(
    ("a", "b"), torch.ones(4, 2), torch.ones(4), torch.zeros(4), torch.arange(4),
    {"method": "m", "neurons": "n", "baseline": "mean", "split": "val", "task": "label"},
)  # fmt: skip


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were made, before they became bytes."""
    figures: list[Figure] = []
    as_picture = module.picture

    def keep(figure: Figure):
        figures.append(figure)
        return as_picture(figure)

    monkeypatch.setattr(module, "picture", keep)
    return figures


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


def test_every_pair_is_shown_once_the_strongest_features_first(drawn: list[Figure]) -> None:
    table = _pairs(5)
    png = feature_pairs(table.sample(frac=1, random_state=0), 7, ABOUT).png
    assert image.imread(io.BytesIO(png)).ndim == 3
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
    title = drawn[0].get_suptitle()
    assert "baseline: mean" in title
    assert "7 val rows" in title


def test_the_models_own_view_stands_beside_in_the_same_order(drawn: list[Figure]) -> None:
    feature_pairs(_pairs(4, weight_norm=2.5), 7, ABOUT)
    left, right = drawn[0].axes
    assert _cells(left).keys() == _cells(right).keys()
    assert {*_cells(right).values()} == {2.5}


def test_of_many_features_the_strongest_are_shown(drawn: list[Figure]) -> None:
    feature_pairs(_pairs(33), 7, ABOUT)
    (axes,) = drawn[0].axes
    names = {name for pair in _cells(axes) for name in pair}
    assert len(names) == 30
    assert not axes.texts
    assert "the 3 that interact least are not shown" in drawn[0].get_suptitle()


def test_features_that_do_not_interact_can_be_drawn(drawn: list[Figure]) -> None:
    feature_pairs(_pairs(3).assign(mean_abs=0.0), 7, ABOUT)
    assert {*_cells(drawn[0].axes[0]).values()} == {0}

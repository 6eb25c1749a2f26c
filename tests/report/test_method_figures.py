"""The pictures that compare methods."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from glassrec.report.method_figures import (
    faithfulness_curves,
    method_columns,
    methods_agreement,
    methods_table,
)
from glassrec.report.style import REST

pytestmark = pytest.mark.filterwarnings("error")

METHODS = pd.DataFrame(
    {
        "method": ["a", "b", "c"],
        "name": ["method A", "method B", "a method with a name that is rather long, 100 samples"],
        "problem": ["", "", "needs at most 12 players"],
        "delta": [1e-9, 0.5, np.nan],
        "deletion": [0.75, 0.5, np.nan],
        "insertion": [0.25, 0.5, np.nan],
        "deletion_random": [0.25, 0.25, np.nan],
        "insertion_random": [0.5, 0.25, np.nan],
        "agreement": [np.nan, 0.24, np.nan],
        "seconds": [0.001, 12345.0, np.nan],
        "sensitivity": [np.nan, np.nan, np.nan],
    }
)


def test_columns_say_which_way_is_better() -> None:
    found = {column.text: column for column in method_columns(METHODS)}
    assert len(found) == 5  # sensitivity is known of none
    deletion = found["deletion gain\nover random order"]
    assert deletion.values[:2].tolist() == [0.5, 0.25]
    assert not deletion.lower_is_better
    assert found["insertion gain\nover random order"].values[:2].tolist() == [-0.25, 0.25]
    assert found["completeness\nerror"].lower_is_better


def test_numbers_are_shaded_by_what_is_better(drawn, told, about) -> None:
    methods_table(METHODS, 200, about)
    (axes,) = drawn[0].axes
    shades = np.ma.filled(axes.images[0].get_array(), np.nan)
    # delta, deletion, insertion, agreement, seconds
    np.testing.assert_array_equal(
        shades, [[1, 1, 0, np.nan, 1], [0, 0, 1, 0, 0], [np.nan] * 5]
    )  # fmt: skip
    texts = [text.get_text() for text in axes.texts]
    assert texts == [
        "1e−09", "0.5", "−0.25", "–", "0.001", "0.5", "0.25", "0.25", "0.24", "1.23e+04",
        "needs at most 12 players",
    ]  # fmt: skip
    assert "measured on 200 of these rows" in told(drawn[0])
    assert about.method not in told(drawn[0])


def test_tables_of_one_method_or_without_numbers_can_be_drawn(drawn, about) -> None:
    methods_table(METHODS[:1], 200, about)
    methods_table(METHODS[2:], 200, about)


def test_agreement_is_symmetric_and_told_in_numbers(drawn, about) -> None:
    names = ["lime", "kernel_shap", "exact"]
    half = pd.DataFrame(
        [("lime", "kernel_shap", -0.5), ("lime", "exact", np.nan), ("exact", "kernel_shap", 0.9)],
        columns=["first", "second", "correlation"],
    )
    both = pd.DataFrame(product(names, names), columns=["first", "second"]).assign(correlation=1.0)
    methods_agreement(half, 200, about)
    methods_agreement(both, 200, about)
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "lime",
        "exact",
        "kernel shap",
    ]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {
        (2, 0): "−0.50", (0, 2): "−0.50", (1, 0): "–", (0, 1): "–", (1, 2): "0.90", (2, 1): "0.90",
    }  # fmt: skip
    # Two colours, from −1 to 1, only where some methods rank the other way round.
    assert axes.images[0].get_clim() == (-1, 1)
    assert drawn[1].axes[0].images[0].get_clim() == (0, 1)


def test_curves_stand_before_a_grey_random_order(drawn, about) -> None:
    rows = [
        (method, kind, order, share, level + share)
        for (method, kind), order in product(
            product([f"m{i}" for i in range(11)], ["deletion", "insertion"]), ["method", "random"]
        )
        for share, level in ((0.0, len(kind)), (1.0, int(method[1:]) if order == "method" else 0.5))
    ]
    frame = pd.DataFrame(rows, columns=["method", "kind", "order", "share", "mean_logit"])
    faithfulness_curves(frame, 200, about)
    deletion, insertion = drawn[0].axes
    for axes, start in ((deletion, 8), (insertion, 9)):
        random, *methods = axes.lines
        assert to_hex(random.get_color()) == REST
        assert list(random.get_ydata()) == [start, 1.5]
        assert [line.get_ydata()[1] for line in methods] == [i + 1 for i in range(11)]
        looks = {(line.get_color(), line.get_linestyle()) for line in methods}
        assert len(looks) == 11

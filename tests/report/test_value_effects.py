"""Effects against values: bands, means and intervals, against numpy and scipy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from glassrec.report.value_effects import (
    binned,
    category_effects,
    category_means,
    ends,
    numeric_effects,
)

pytestmark = pytest.mark.filterwarnings("error")


def test_any_rows_can_be_drawn(case, drawn, sample, about, raw_values) -> None:
    numeric_effects(sample(*case), raw_values(*case), about)
    category_effects(sample(*case), raw_values(*case), about, "rating")


@pytest.mark.parametrize("distinct", [7, 1000])
def test_a_band_has_the_quantiles_of_its_rows(distinct: int) -> None:
    random = np.random.default_rng(0)
    values = np.sort(random.choice(random.lognormal(size=distinct), 1000))
    parts = random.normal(values, 1)
    found = binned(values, parts)
    if distinct == 7:
        rows = [values == value for value in np.unique(values)]
    else:
        edges = np.quantile(values, np.linspace(0, 1, 21))
        edges[0] = -1
        rows = [(values > low) & (values <= high) for low, high in pairwise(edges)]
    assert len(found) == len(rows)
    for (_, bin_), own in zip(found.iterrows(), rows, strict=True):
        assert bin_["rows"] == own.sum()
        assert bin_["value"] == pytest.approx(np.median(values[own]))
        expected = np.quantile(parts[own], [0.1, 0.5, 0.9])
        np.testing.assert_allclose(bin_[["low", "middle", "high"]], expected)


def test_the_panel_shows_the_band_and_the_rows(drawn, sample, about) -> None:
    random = np.random.default_rng(0)
    price = random.normal(50, 10, 500)
    parts = np.column_stack([price / 10, np.zeros(500), random.normal(size=500)])
    values = pd.DataFrame({"price": price, "idle": price, "city": "Rome"})
    numeric_effects(sample(["price", "idle", "city"], parts), values, about)
    panel, strip = (axes for axes in drawn[0].axes if axes.get_visible())
    assert panel.get_title(loc="left") == "price"
    found = binned(price, price / 10)
    line = panel.lines[1]
    np.testing.assert_allclose(line.get_xydata(), found[["value", "middle"]])
    band = panel.collections[0].get_paths()[0].vertices
    at = found.iloc[3]
    heights = band[np.isclose(band[:, 0], at["value"]), 1]
    assert (heights.min(), heights.max()) == pytest.approx((at["low"], at["high"]))
    low, high = np.quantile(price, [0.01, 0.99])
    assert panel.get_xlim() == pytest.approx((low, high)) == strip.get_xlim()
    counts, _ = np.histogram(price[(price >= low) & (price <= high)], 40)
    assert [bar.get_height() for bar in strip.patches] == counts.tolist()


def test_a_category_has_its_mean_and_interval(drawn, told, sample, about) -> None:
    random = np.random.default_rng(0)
    names = random.choice(["Toy Story", "Heat", "Alien", "rare"], 200, p=[0.5, 0.3, 0.19, 0.01])
    parts = random.normal(np.char.str_len(names), 2)
    means = category_means(pd.Series(names), parts)
    assert "rare" not in means.index
    assert means["mean"].is_monotonic_decreasing
    for name, row in means.iterrows():
        own = parts[names == name]
        assert (row["rows"], row["mean"]) == (len(own), pytest.approx(own.mean()))
        interval = stats.t.interval(0.95, len(own) - 1, own.mean(), stats.sem(own))
        assert (row["low"], row["high"]) == pytest.approx(interval)
    category_effects(sample(["film"], parts[:, None]), pd.DataFrame({"film": names}), about)
    (axes,) = drawn[0].axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"{name} ({rows})" for name, rows in means["rows"].items()]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), means["mean"])
    spans = [path.vertices[:, 0] for path in axes.collections[0].get_paths()]
    np.testing.assert_allclose(spans, means[["low", "high"]])
    assert axes.get_xlabel() == "mean attribution to the logit"


def test_of_many_categories_the_highest_and_the_lowest_are_shown() -> None:
    means = pd.DataFrame({"mean": range(30, 0, -1)})
    assert ends(means, 10)["mean"].tolist() == [30, 29, 28, 27, 26, 5, 4, 3, 2, 1]
    assert len(ends(means.head(10), 10)) == 10


def test_a_panel_without_a_frequent_value_says_so(drawn, sample, about) -> None:
    names, parts = [*"abcdefgh"], np.arange(8.0)[:, None]
    category_effects(sample(["film"], parts), pd.DataFrame({"film": names}), about)
    assert drawn[0].axes[0].get_title(loc="left") == "film: no value has 5 rows"

"""Effect against value: attributions over the values of numeric features, and by category."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.special import stdtrit

from glassrec.artifacts import Attributions, Explanation
from glassrec.data.schema import TaskKind
from glassrec.report.formatting import feature_name, shorten
from glassrec.report.primitives import logit_name, value_text, zero_line
from glassrec.report.row_figures import by_size
from glassrec.report.style import GREY, INK, LARGE, REST, figure, sample_subtitle, set_title

MAX_NUMBERS, MAX_FIELDS = 6, 4
"""Numeric features and fields that have a panel, the most important ones."""

MAX_BINS, MAX_CATEGORIES, FEW = 20, 10, 5
"""Bins of a numeric feature; categories of a field, and the rows that each of them has at least."""

SEEN = 0.01, 0.99
"""The quantiles of a numeric feature between which its panel lies."""


def effect_features(sample: Attributions, values: pd.DataFrame, *, numbers: bool) -> list[str]:
    """The features with an effect that have numeric values, or names; the most important first."""
    moving = [sample.features[at] for at in by_size(sample.values) if sample.values[:, at].any()]
    known = [name for name in moving if name in values and values[name].notna().any()]
    return [name for name in known if pd.api.types.is_numeric_dtype(values[name]) == numbers]


@figure
def numeric_effects(
    sample: Attributions, values: pd.DataFrame, about: Explanation, kind: TaskKind = "click"
) -> Figure:
    """Attributions over the values of numeric features, with a band and the density of the rows.

    `values` (N rows) has the values of the sample's rows, see `decode`; some numeric ones have an
    effect.
    """
    names = effect_features(sample, values, numbers=True)[:MAX_NUMBERS]
    drawing, panels, strips = _panels(len(names), 2.5, [6, 1])
    for axes, strip, name in zip(panels, strips, names, strict=False):
        parts = sample.values[:, sample.features.index(name)].double().numpy()
        known = values[name].notna().to_numpy()
        _number_panel(axes, strip, values[name].to_numpy(float)[known], parts[known])
        axes.set_title(feature_name(name), weight="bold")
        axes.set_ylabel(f"attribution to the {logit_name(kind)}", fontsize=8)
    set_title(
        drawing,
        "How does the effect of a number depend on its value?",
        *sample_subtitle(about, len(values)),
        "line: the median attribution of rows of like values; band: 80 % of them lie in it; below: "
        "how many rows have the value; across: the value in the unit of the data, without missing "
        f"ones and the lowest and highest 1 %{_rest(len(names), sample, values, numbers=True)}",
    )
    return drawing


def _number_panel(axes: Axes, strip: Axes, values: np.ndarray, parts: np.ndarray) -> None:
    bins = binned(values, parts)
    axes.axhline(0, color=INK, lw=0.8)
    axes.fill_between(bins["value"], bins["low"], bins["high"], color=LARGE, alpha=0.25, lw=0)
    axes.plot(bins["value"], bins["middle"], color=LARGE, lw=1.8, marker="o", ms=3)
    low, high = np.quantile(values, SEEN)
    strip.hist(values[(values >= low) & (values <= high)], bins=40, color=GREY)
    strip.sharex(axes)
    if low < high:
        axes.set_xlim(low, high)
    axes.tick_params(labelbottom=False, length=0)
    axes.spines["bottom"].set_visible(False)
    strip.xaxis.set_major_locator(MaxNLocator(5))
    strip.set_yticks([])
    strip.spines["left"].set_visible(False)


def binned(values: np.ndarray, parts: np.ndarray) -> pd.DataFrame:
    """A row for each bin of the values (N,): the median `value`, the 10 %, 50 % and 90 % quantiles
    `low`, `middle`, `high` of the attributions `parts` (N,), and `rows`.

    Each value is a bin where there are few; otherwise bins hold about equally many rows.
    """
    codes, distinct = pd.factorize(values, sort=True)
    if len(distinct) > MAX_BINS:
        codes = pd.qcut(values, MAX_BINS, labels=False, duplicates="drop")
    groups = pd.DataFrame({"value": values, "part": parts}).groupby(codes)
    spread = groups["part"].quantile(np.array([0.1, 0.5, 0.9])).unstack()
    spread.columns = pd.Index(["low", "middle", "high"])
    return pd.concat([groups["value"].median(), spread, groups.size().rename("rows")], axis=1)


@figure
def category_effects(
    sample: Attributions, values: pd.DataFrame, about: Explanation, kind: TaskKind = "click"
) -> Figure:
    """The mean attribution of each category or item of the most important fields, by name.

    `values` are as for `numeric_effects`; some names have an effect.
    """
    names = effect_features(sample, values, numbers=False)[:MAX_FIELDS]
    drawing, panels = _panels(len(names), 3.2, [1])
    for axes, name in zip(panels, names, strict=False):
        parts = sample.values[:, sample.features.index(name)].double().numpy()
        means = category_means(values[name].map(value_text), parts)
        _category_panel(axes, ends(means, MAX_CATEGORIES), len(means))
        more = f": {MAX_CATEGORIES} of {len(means):,}" if len(means) > MAX_CATEGORIES else ""
        more = more if len(means) else f": no value has {FEW} rows"
        axes.set_title(f"{feature_name(name)}{more}", weight="bold")
        axes.set_xlabel(f"mean attribution to the {logit_name(kind)}", fontsize=8)
    set_title(
        drawing,
        "Which categories and items raise the prediction, and which lower it?",
        *sample_subtitle(about, len(values)),
        f"dot: the mean over the rows of a category; line: its 95 % interval; in brackets: the "
        f"number of these rows, at least {FEW}; of many categories, those that raise it most and "
        f"those that lower it most{_rest(len(names), sample, values, numbers=False)}",
    )
    return drawing


def category_means(values: pd.Series, parts: np.ndarray) -> pd.DataFrame:
    """By category: the `mean` of its attributions `parts` (N,), its 95 % interval of Student's t
    from `low` to `high`, and its `rows`, `FEW` or more; the largest mean first.
    """
    groups = pd.Series(parts).groupby(values.to_numpy())
    found = pd.DataFrame({"mean": groups.mean(), "rows": groups.size()})
    reach = stdtrit(found["rows"] - 1, 0.975) * groups.std() / np.sqrt(found["rows"])
    found = found.assign(low=found["mean"] - reach, high=found["mean"] + reach)
    return found[found["rows"] >= FEW].sort_values("mean", ascending=False, kind="stable")


def ends(means: pd.DataFrame, most: int) -> pd.DataFrame:
    """The first and the last half of `most` rows, or all."""
    if len(means) <= most:
        return means
    return pd.concat([means.head(most // 2), means.tail(most // 2)])


def _category_panel(axes: Axes, means: pd.DataFrame, count: int) -> None:
    places = np.arange(len(means))
    axes.hlines(places, means["low"], means["high"], color=LARGE, lw=2, alpha=0.6)
    axes.plot(means["mean"], places, "o", color=LARGE, ms=5)
    zero_line(axes)
    if len(means) < count:
        axes.axhline(len(means) / 2 - 0.5, color=REST, lw=1, ls=":")
    labels = [f"{shorten(str(name), 20)} ({rows:,})" for name, rows in means["rows"].items()]
    axes.set_yticks(places, labels)
    axes.set_ylim(max(len(means), 2) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _panels(count: int, height: float, heights: Sequence[int]) -> tuple[Any, ...]:
    """A figure of two columns, and `count` panels for each of `heights`, those in relation; the
    panels of one place stand below each other.
    """
    columns, rows, each = min(2, max(1, count)), max(1, -(-count // 2)), len(heights)
    drawing = Figure(figsize=(4.1 * columns, height * rows), layout="constrained")
    panels = drawing.subplots(rows * each, columns, squeeze=False, height_ratios=[*heights] * rows)
    parts = [panels[at::each].flatten() for at in range(each)]
    for part in parts:
        for axes in part[count:]:
            axes.set_visible(False)
    return drawing, *parts


def _rest(shown: int, sample: Attributions, values: pd.DataFrame, *, numbers: bool) -> str:
    count = len(effect_features(sample, values, numbers=numbers))
    return f"; the {shown} most important of {count:,}" if shown < count else ""

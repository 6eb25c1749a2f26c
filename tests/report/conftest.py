"""What the tests of pictures share: an explanation, statistics, and the figures as drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from glassrec.artifacts import Attributions, Explanation, Picture
from glassrec.report import style


@pytest.fixture
def about() -> Explanation:
    return Explanation(
        method="integrated gradients, 32 steps",
        neurons="conductance, 16 steps",
        baseline="mean",
        selection="2,000 of 6,000 val rows at random",
        task="click",
        rows=2000,
        mean_logit=-1.25,
        mean_baseline_logit=-2.5,
        relative_delta=0.0314,
        complete=True,
        agreement=None,
        rank_stability=0.97,
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were made, laid out but not painted, and found readable."""
    figures: list[Figure] = []

    def keep(figure: Figure) -> Picture:
        figure.set_dpi(130)
        figure.draw_without_rendering()
        _is_readable(figure)
        figures.append(figure)
        return Picture(b"")

    monkeypatch.setattr(style, "to_png", keep)
    return figures


def _is_readable(figure: Figure) -> None:
    """Text is large enough and in the picture; labels, panels and heading do not overlap."""
    page = figure.bbox.padded(2)
    heading = min(text.get_window_extent().y0 for text in figure.texts)
    panels = [axes for each in figure.axes for axes in (each, *each.child_axes)]
    for axes in filter(lambda axes: axes.get_visible(), panels):
        assert axes.get_tightbbox().y1 <= heading + 1
        across, down = _labels(axes.xaxis), _labels(axes.yaxis)
        titles = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts, *across, *down]
        for text in (text for text in titles if text.get_visible() and text.get_text()):
            box = text.get_window_extent()
            assert page.contains(box.x0, box.y0), text
            assert page.contains(box.x1, box.y1), text
            assert text.get_fontsize() >= 8, text
        _are_apart(across, "x")
        _are_apart(down, "y")
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert page.contains(box.x0, box.y0), legend
        assert page.contains(box.x1, box.y1), legend


def _labels(axis: Axis) -> list[Text]:
    """Those that are seen: there are ticks outside the panel, too."""
    low, high = sorted(axis.get_view_interval())
    return [
        label
        for tick, place in zip(axis.get_major_ticks(), axis.get_majorticklocs(), strict=True)
        for label in (tick.label1, tick.label2)
        if low <= place <= high and label.get_visible()
    ]


def _are_apart(labels: Sequence[Text], side: str) -> None:
    """No two overlap; slanted ones may pass each other."""
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    ends = sorted((getattr(box, f"{side}0"), getattr(box, f"{side}1")) for box in boxes)
    if not any(label.get_rotation() % 90 for label in labels):
        for (_, end), (start, _) in pairwise(ends):
            assert end <= start + 1, [label.get_text() for label in labels]


@pytest.fixture
def told() -> Callable[[Figure], str]:
    """All that a heading says, on one line."""
    return lambda figure: " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


@pytest.fixture
def statistics() -> Callable[[np.ndarray], pd.DataFrame]:
    """Of values (rows, units), as the explanation stage has them."""

    def of(values: np.ndarray) -> pd.DataFrame:
        size = np.abs(values).mean(0)
        return pd.DataFrame(
            {
                "mean_abs": size,
                "mean_abs_low": 0.9 * size,
                "mean_abs_high": 1.2 * size,
                "max_abs": np.abs(values).max(0),
                "mean": values.mean(0),
                "negative_share": (values < 0).mean(0),
                "positive_share": (values > 0).mean(0),
            }
        )

    return of


def _values(rows: int, players: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    scale = np.exp(-np.arange(players) / 5)[::-1]
    return generator.normal(0.1, 1, (rows, players)) * scale


CRITEO = [*(f"I{i}" for i in range(1, 14)), *(f"C{i}" for i in range(1, 27))]
MANY = [f"{side}[{k}]" for side in ("user", "item") for k in range(200)]
ODD = ["a very long name of a column that nobody wanted to type " * 2, "$x$", "_hidden", "a_$b", ""]

CASES: dict[str, tuple[list[str], np.ndarray]] = {
    "criteo": (CRITEO, _values(50, 39)),
    "two players": (["user", "item"], _values(50, 2)),
    "one player": (["only"], _values(50, 1)),
    "many players": (MANY, _values(30, 400)),
    "odd names": (ODD, _values(30, 5)),
    "one row": (["a", "b", "c"], _values(1, 3)),
    "zeros": (["a", "b", "c"], np.zeros((20, 3))),
    "unknown": (["a", "b", "c"], np.where(np.arange(3) == 1, np.nan, _values(20, 3))),
    "all unknown": (["a", "b"], np.full((20, 2), np.nan)),
    "negative": (["a", "b", "c"], -np.abs(_values(20, 3))),
    "huge and tiny": (["a", "b"], _values(20, 2) * [1e9, 1e-9]),
}
"""Names of players or units, and values (rows, players)."""


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[list[str], np.ndarray]:
    return CASES[request.param]


@pytest.fixture
def sample() -> Callable[[Sequence[str], np.ndarray], Attributions]:
    """Attributions that add up, to players of these names."""

    def of(names: Sequence[str], values: np.ndarray) -> Attributions:
        parts = torch.from_numpy(values)
        start = torch.linspace(-2, -1, len(parts), dtype=torch.float64)
        logits = start + parts.nan_to_num().sum(1)
        return Attributions(tuple(names), parts, logits, start, torch.arange(len(parts)), {})

    return of


@pytest.fixture
def raw_values() -> Callable[[Sequence[str], np.ndarray], pd.DataFrame]:
    """Values of the features of a case: numbers, few names, many names, and none, in turn."""

    def of(names: Sequence[str], parts: np.ndarray) -> pd.DataFrame:
        places = np.arange(len(parts))
        kinds = [
            places * 123.456,
            np.array([f"a long name of category {place % 5}" for place in places], object),
            np.array([f"item {place % 9}" for place in places], object),
        ]
        known = [(name, kinds[at % 4]) for at, name in enumerate(names) if at % 4 < 3]
        return pd.DataFrame(dict(known), index=range(len(parts)))

    return of

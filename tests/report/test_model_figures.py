"""Figures of a model: pruning curves."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from glassrec.report.model_figures import pruning_curves
from glassrec.report.style import REST, SMALL

pytestmark = pytest.mark.filterwarnings("error")

SCORES = ("conductance", "taylor", "activation", "zeros", "magnitude", "deviation", "random")
SHARES = (0.0, 0.1, 0.5, 0.95)
WAYS = ((True, 0), (False, 0), (True, 1))


def _table(
    scores: tuple[str, ...] = SCORES,
    shares: tuple[float, ...] = SHARES,
    ways: tuple[tuple[bool, int], ...] = WAYS,
    seeds: int = 3,
) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        (
            seed,
            score,
            draw,
            share,
            *way,
            0.8 + 0.1 * (seed - seeds // 2) - share * random.random() / 2,
        )
        for seed, score, share, way in product(range(seeds), scores, shares, ways)
        for draw in range(3 if score == "random" else 1)
    ]
    return pd.DataFrame(
        rows, columns=["seed", "score", "draw", "share", "folded", "epochs", "test/auroc"]
    )


CASES = {
    "three seeds": _table(),
    "one run": _table(seeds=1).drop(columns="seed"),
    "one way": _table(ways=WAYS[:1]),
    "a single share": _table(shares=(0.0, 0.5)),
    "one score": _table(scores=("zeros",), seeds=1),
    "random alone": _table(scores=("random",), ways=WAYS[:1]),
    "nothing cut": _table(shares=(0.0,)),
    "not defined": _table().assign(**{"test/auroc": np.nan}),
    "not defined at one half": _table().assign(
        **{"test/auroc": lambda table: table["test/auroc"].where(table["share"] != 0.5)}
    ),
    "a score of many words": _table().replace("taylor", "the loss's own expansion, squared"),
}


@pytest.mark.parametrize("case", CASES)
def test_any_table_can_be_drawn(case: str, drawn, told) -> None:
    pruning_curves(CASES[case], "test/auroc", "a finding")
    (figure,) = drawn
    assert "How much can be pruned" in told(figure)


def test_each_line_is_a_mean_and_two_have_a_band(drawn) -> None:
    frame = _table()
    pruning_curves(frame, "test/auroc", "a finding")
    panels = drawn[0].axes
    assert [axes.get_title(loc="left") for axes in panels] == [
        "Means folded", "Zeros instead of means", "Means folded, then 1 epoch of fine-tuning",
    ]  # fmt: skip
    for axes, (folded, epochs) in zip(panels, WAYS, strict=True):
        cuts = frame[(frame["folded"] == folded) & (frame["epochs"] == epochs)]
        lines = {line.get_label(): line for line in axes.lines}
        assert {*lines} == {*SCORES, "unpruned"}
        assert lines["unpruned"].get_ydata() == pytest.approx([0.8, 0.8])
        for score in SCORES:
            of = cuts[cuts["score"] == score]
            expected = [of.loc[of["share"] == share, "test/auroc"].mean() for share in SHARES]
            np.testing.assert_allclose(lines[score].get_ydata(), expected)
        random, led = axes.collections
        assert to_hex(random.get_facecolor()) == REST
        assert to_hex(led.get_facecolor()) == SMALL
        for band, score in ((random, "random"), (led, "conductance")):
            last = cuts[(cuts["score"] == score) & (cuts["share"] == 0.95)]
            lost = (0.8 + 0.1 * (last["seed"] - 1) - last["test/auroc"]).std()
            middle = last["test/auroc"].mean()
            heights = band.get_paths()[0].vertices
            ends = heights[np.isclose(heights[:, 0], 0.95), 1]
            assert ends.min() == pytest.approx(middle - lost)
            assert ends.max() == pytest.approx(middle + lost)
        assert max(axes.lines, key=lambda line: line.get_linewidth()).get_label() == "conductance"
        assert axes.lines[-1].get_label() == "conductance"


def test_colours_tell_the_scores_apart(drawn) -> None:
    pruning_curves(_table(), "test/auroc", "a finding")
    assert len({line.get_color() for line in drawn[0].axes[0].lines}) == len(SCORES) + 1


def test_the_heading_says_what_is_shown_and_found(drawn, told) -> None:
    pruning_curves(_table(), "test/auroc", "a finding")
    pruning_curves(_table(seeds=1).drop(columns="seed"), "test/auroc", "a finding")
    pruning_curves(_table(scores=("zeros",), seeds=1), "test/auroc", "a finding")
    many, one, bare = (told(figure) for figure in drawn)
    assert "a finding" in many
    assert (
        "lines: means of 3 seeds; random: 3 orders of each; bands: ± one standard deviation" in many
    )
    assert (
        "one run; random: 3 orders; bands: ± one standard deviation of the loss of the metric"
        in one
    )
    assert "band" not in bare


def test_the_axis_says_which_way_is_better(drawn) -> None:
    frame = _table(ways=WAYS[:1]).rename(columns={"test/auroc": "test/stars/rmse"})
    pruning_curves(frame, "test/stars/rmse", "a finding")
    assert drawn[0].axes[0].get_ylabel() == "stars: RMSE on the test split (lower is better)"

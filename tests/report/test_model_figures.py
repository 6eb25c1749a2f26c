"""Figures of a model: both models side by side, and pruning curves."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import nan

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from glassrec.artifacts import Certificate, LayerPlan, PrunePlan
from glassrec.report.model_figures import before_and_after, pruning_curves
from glassrec.report.style import REST, SMALL

pytestmark = pytest.mark.filterwarnings("error")

LAYERS = {
    "bottom.0": LayerPlan(4, [0, 1, 2], {"data": [3]}, {3: 0.5}, 1, 0, 0, ""),
    "top.0": LayerPlan(8, list(range(8)), {"data": []}, {}, 0, 0, 0, ""),
}
CERTIFICATE = Certificate(
    level="data",
    exact=True,
    ground="",
    rows={"train": 900, "test": 100},
    max_abs_logit_difference=3e-12,
    p999_abs_logit_difference=1e-13,
    rows_changed=0,
    max_abs_logit=0.5,
    tolerance=1e-9,
    layers={},
    weights="",
    pruned="",
    files={},
    given={},
    splits={},
    versions={},
)
METRICS = {
    "parameters": 1000.0, "tower_parameters": 400.0, "bytes": 4096.0, "flops": 0.0,
    "latency_p50_1": 0.5, "latency_p50_4096": 200.0, "test/auroc": 0.75,
    "pruned/parameters": 900.0, "pruned/tower_parameters": 300.0, "pruned/bytes": 2048.0,
    "pruned/flops": 0.0, "pruned/latency_p50_1": 0.5, "pruned/latency_p50_4096": 300.0,
    "pruned/test/auroc": 0.5, "pruned/test/auroc_change": -0.25,
    "pruned/test/auroc_change_low": -0.375, "pruned/test/auroc_change_high": 0.125,
    "pruned/test/top10_agreement": 0.875,
}  # fmt: skip
PLAN = PrunePlan("data", "", "all 9 rows", 2, True, False, "ab12", LAYERS)


def test_it_shows_what_is_kept_and_says_whether_it_is_exact(drawn, told) -> None:
    before_and_after(METRICS, ["auroc"], PLAN, CERTIFICATE)
    quality, _, _, size = drawn[0].axes
    assert [bar.get_width() for bar in quality.patches] == [0.75, 0.5]
    assert [bar.get_width() for bar in size.patches[:2]] == [0.75, 1]
    assert [text.get_text() for text in size.texts] == ["3 of 4 kept", "8 of 8 kept"]
    text = told(drawn[0])
    for fact in ("1 of 12 neurons", "guarantee: data", "equal on all 1,000 rows", "|Δlogit| 3e−12",
                 "87.5% of each list's first 10"):  # fmt: skip
        assert fact in text
    changed = replace(CERTIFICATE, exact=False, rows_changed=7)
    before_and_after(METRICS, ["auroc"], replace(PLAN, level="sample"), changed)
    assert "7 of 1,000 rows changed" in told(drawn[1])


def test_a_change_has_its_interval_and_a_cost_its_share(drawn) -> None:
    before_and_after(METRICS, ["auroc"], PLAN, CERTIFICATE)
    _, change, cost, _ = drawn[0].axes
    interval, point, _ = change.lines
    assert [*interval.get_xdata()] == [-0.375, 0.125]
    assert [*point.get_xdata()] == [-0.25]
    assert change.texts[0].get_text() == "−0.2500 (−0.3750 to 0.1250)"
    # FLOPs of which there are none have no share.
    assert [bar.get_width() for bar in cost.patches[:5]] == [0.9, 0.75, 0.5, 1, 1.5]
    assert [text.get_text() for text in cost.texts] == [
        "1,000 → 900 (−10.0 %)", "400 → 300 (−25.0 %)", "4 KiB → 2 KiB (−50.0 %)",
        "0.5 ms → 0.5 ms (+0.0 %)", "200 ms → 300 ms (+50.0 %)",
    ]  # fmt: skip
    assert cost.get_xlim() == (0, 1.5)


def test_what_is_not_defined_and_a_model_without_layers_are_shown_as_such(drawn, told) -> None:
    undefined = {name: nan for name in METRICS if "auroc" in name}
    tasks = {"pruned/test/click/top10_agreement": 0.5, "pruned/test/stars/top10_agreement": 1.0}
    before_and_after(METRICS | undefined | tasks, ["auroc"], replace(PLAN, layers={}), CERTIFICATE)
    _, change, cost = drawn[0].axes
    assert change.texts[0].get_text() == "not defined"
    assert cost.get_title(loc="left") == "Cost of the pruned model"
    assert "50.0% of each list's first 10" in told(drawn[0])
    assert "(task stars)" in told(drawn[0])


def test_many_layers_and_metrics_of_long_names_stay_readable(drawn) -> None:
    layers = {f"a_tower_of_many_layers.{i}": LAYERS["top.0"] for i in range(20)}
    names = [f"a task with a long name/metric{i}" for i in range(6)]
    metrics = dict(METRICS)
    for name in names:
        for end, value in {
            "": 0.5,
            "_change": 0.0,
            "_change_low": 0.0,
            "_change_high": 0.0,
        }.items():
            metrics |= {f"test/{name}{end}": value, f"pruned/test/{name}{end}": value}
    before_and_after(metrics, names, replace(PLAN, layers=layers), CERTIFICATE)
    assert len(drawn) == 1


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
    assert drawn[0].axes[0].get_ylabel() == "stars/rmse on the test split (lower is better)"

"""The picture of what a cut changed."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from glassrec.artifacts import Certificate, LayerCut, PrunePlan
from glassrec.report.model_figures import before_and_after

pytestmark = pytest.mark.filterwarnings("error")

LAYERS = {
    "bottom.0": LayerCut(4, [0, 1, 2], {"data": [3]}, {3: 0.5}, 1, 0, 0, ""),
    "top.0": LayerCut(8, list(range(8)), {"data": []}, {}, 0, 0, 0, ""),
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

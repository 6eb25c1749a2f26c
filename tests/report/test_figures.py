"""The picture of what a cut changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glassrec.artifacts import Certificate, LayerCut, PrunePlan
from glassrec.report.figures import before_and_after

pytestmark = pytest.mark.filterwarnings("error")

LAYERS = {
    "bottom.0": LayerCut(4, [0, 1, 2], {"data": [3]}, {3: 0.5}, 1, 0, 0),
    "top.0": LayerCut(8, list(range(8)), {"data": []}, {}, 0, 0, 0),
}
CERTIFICATE = Certificate(
    level="data",
    exact=True,
    ground="",
    rows={"train": 900, "test": 100},
    max_abs_logit_difference=3e-12,
    p999_abs_logit_difference=1e-13,
    rows_changed=0,
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
    "parameters": 1000.0, "tower_parameters": 400.0, "test/auroc": 0.75,
    "pruned/parameters": 900.0, "pruned/tower_parameters": 300.0, "pruned/test/auroc": 0.5,
}  # fmt: skip


def test_it_shows_what_is_kept_and_says_whether_it_is_exact(drawn, told) -> None:
    before_and_after(METRICS, ["auroc"], PrunePlan("data", 2, LAYERS), CERTIFICATE)
    quality, size = drawn[0].axes
    assert [bar.get_width() for bar in quality.patches] == [0.75, 0.5]
    assert [bar.get_width() for bar in size.patches] == [0.75, 1, 0.25, 0]
    assert [text.get_text() for text in size.texts] == ["3 of 4 kept", "8 of 8 kept"]
    text = told(drawn[0])
    for fact in ("1 of 12 neurons", "level data", "equal on all 1,000 rows", "|Δlogit| 3e−12",
                 "1,000 → 900 (−10.0%)", "400 → 300 (−25.0%)"):  # fmt: skip
        assert fact in text
    changed = replace(CERTIFICATE, exact=False, rows_changed=7)
    before_and_after(METRICS, ["auroc"], PrunePlan("sample", 2, LAYERS), changed)
    assert "7 of 1,000 rows changed" in told(drawn[1])

from __future__ import annotations

import pytest

from glassrec.metrics import merit, sign


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [("test/auroc", 0.9, 0.8), ("val/stars/rmse", 0.8, 0.9), ("test/calibration", 1.1, 0.8),
     ("test/bias", -0.1, 0.2), ("pruned/parameters", 10, 20), ("latency_p50_4096", 1, 2),
     ("pruned/proven_share", 0.5, 0.1), ("pruned/max_abs_logit_difference", 0, 1)],
)  # fmt: skip
def test_merit_is_larger_for_what_is_better(name: str, better: float, worse: float) -> None:
    assert merit(name, better) > merit(name, worse)


def test_the_sign_says_which_way_is_better() -> None:
    assert [sign(name) for name in ("test/auroc", "test/rmse", "parameters")] == [1, -1, -1]

from __future__ import annotations

import pytest

from glassrec.metrics.metadata import as_higher_is_better, format_metric, primary_metrics, sign


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [("test/auroc", 0.9, 0.8), ("val/stars/rmse", 0.8, 0.9), ("test/calibration", 1.1, 0.8),
     ("test/bias", -0.1, 0.2), ("pruned/parameters", 10, 20), ("latency_p50_4096", 1, 2),
     ("pruned/proven_share", 0.5, 0.1), ("pruned/max_abs_logit_difference", 0, 1)],
)  # fmt: skip
def test_merit_is_larger_for_what_is_better(name: str, better: float, worse: float) -> None:
    assert as_higher_is_better(name, better) > as_higher_is_better(name, worse)


def test_the_sign_says_which_way_is_better() -> None:
    assert [sign(name) for name in ("test/auroc", "test/rmse", "parameters")] == [1, -1, -1]


@pytest.mark.parametrize(
    ("metric", "value", "size", "expected"),
    [
        ("test/auroc", 0.00012, None, "0.0001"), ("val/rmse", 0.93994, None, "0.9399"),
        ("rmse", 12.3456789, None, "12.3457"), ("stars/rmse", 1234567.8, None, "1,234,568"),
        ("mae", 4.5678e-7, None, "0.0000004568"), ("rmse", -0.3, 1234567.8, "0"),
        ("rmse", 1e-9, 4.5678e-7, "0.0000000010"), ("bias", 0.0, None, "0.0000"),
        ("rmse", float("nan"), None, "nan"),
    ],
)  # fmt: skip
def test_a_metric_in_the_unit_of_a_rating_has_digits_of_that_size(metric, value, size, expected):
    assert format_metric(metric, value, size) == expected


def test_metrics_of_a_part_of_a_split_are_no_headline():
    names = ["auroc", "accuracy", "known/auroc", "unseen_item/auroc", "stars/unseen_user/rmse"]
    assert primary_metrics(names) == ["auroc", "accuracy"]

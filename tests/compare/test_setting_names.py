"""What settings are called on the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from glassrec.compare.run_comparison import compare
from glassrec.compare.scan import scan
from glassrec.compare.setting_names import setting_labels

Leave = Callable[..., Path]


def _labels(directory: Path) -> list[str]:
    (task,) = compare(scan([directory / "runs"])).groups
    return setting_labels([each.differs for each in task.settings], task.labels)


def _metrics(value: float) -> dict[str, float]:
    return {"val/auroc": value, "test/auroc": value}


def test_choices_stand_for_themselves_and_values_have_names(leave: Leave, tmp_path: Path) -> None:
    leave("a", "mlp", trainer__precision="bf16", metrics=_metrics(0.9))
    leave("b", "gmf", trainer__precision="bf16", metrics=_metrics(0.8))
    assert _labels(tmp_path) == ["mlp", "gmf"]
    leave("c", "gmf", trainer__precision="32", table_optimizer=None, metrics=_metrics(0.7))
    assert _labels(tmp_path) == [
        "mlp · precision bf16",
        "gmf · precision bf16",
        "gmf · precision 32",
    ]


def test_of_many_values_a_name_tells_its_own(leave: Leave, tmp_path: Path) -> None:
    usual = {"start": None, "model__a": 1, "model__b": 1, "model__c": 1}
    for place, own in enumerate(("start", "model__a", "model__b", "model__c")):
        leave(own, **usual | {own: 2}, metrics=_metrics(-place))
    assert _labels(tmp_path) == ["start 2", "a 2", "b 2", "c 2"]
    leave("e", **usual, metrics=_metrics(-9))  # it has nothing of its own, and needs a name
    assert _labels(tmp_path)[0] == "a 1 · b 1 · c 1 · start 2"
    assert _labels(tmp_path)[-1] == "a 1 · b 1 · c 1 · start null"

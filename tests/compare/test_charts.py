"""What the curves and colour tables of the page are made of, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from glassrec.compare import charts, explanation_agreement
from glassrec.compare.charts import GRID, concentration, pruning
from glassrec.compare.explanation_agreement import ExplanationAgreement
from glassrec.compare.page_tables import SettingView, formatter
from glassrec.compare.run_comparison import Setting
from glassrec.report.run_record import RunRecord


def _run(path: Path, **tables: pd.DataFrame) -> RunRecord:
    path.mkdir()
    for name, frame in tables.items():
        frame.to_parquet(path / f"{name}.parquet")
    return RunRecord(path, path.name, "finished")


def _shown(label: str, *runs: RunRecord) -> SettingView:
    return SettingView(label, label, "red", Setting({}, list(runs), {}, {}, {}), "")


def _neurons(layers: dict[str, list[float]]) -> pd.DataFrame:
    rows = [(layer, size, size) for layer, sizes in layers.items() for size in sizes]
    return pd.DataFrame(rows, columns=["layer", "mean_abs", "max_abs"])


def test_each_layer_counts_alike_whatever_its_size_and_scale(tmp_path: Path) -> None:
    # The better half of `a` has 10 of 12, that of `b` 1000 of 2000.
    run = _run(tmp_path / "r", neurons=_neurons({"a": [1, 9, 1, 1], "b": [1000, 1000]}))
    found = concentration(run)
    assert found is not None
    assert np.interp(0.5, GRID, found) == pytest.approx((10 / 12 + 1 / 2) / 2)
    assert [found.iloc[0], found.iloc[-1]] == pytest.approx([0, 1])


def test_layers_without_any_conductance_and_runs_without_neurons_carry_nothing(
    tmp_path: Path,
) -> None:
    assert concentration(_run(tmp_path / "r", neurons=_neurons({"a": [0, 0]}))) is None
    assert concentration(_run(tmp_path / "bare")) is None


def test_a_pruning_curve_is_that_of_conductance_in_the_first_way(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        [("conductance", 0.0, True, 0, 0.9), ("conductance", 0.5, True, 0, 0.8),
         ("conductance", 0.5, False, 0, 0.1), ("conductance", 0.5, True, 1, 0.2),
         ("random", 0.5, True, 0, 0.3)],
        columns=["score", "share", "folded", "epochs", "test/auroc"],
    )  # fmt: skip
    run = _run(tmp_path / "r", pruning_curves=frame)
    found = pruning(run, "test/auroc")
    assert found is not None
    assert found.to_dict() == {0.0: 0.9, 0.5: 0.8}
    assert pruning(run, "test/rmse") is None


def test_quality_is_kept_up_to_the_first_share_that_loses_more_than_it_may() -> None:
    def curve(*values: float) -> pd.DataFrame:
        return pd.DataFrame({0: values}, index=pd.Index([0.0, 0.25, 0.5, 0.75]))

    # The second recovers after it has lost too much.
    both = [(_shown("good"), curve(0.9, 0.899, 0.896, 0.5)),
            (_shown("bad"), curve(0.9, 0.8, 0.9, 0.9))]  # fmt: skip
    told = charts.pruning_finding(both, "test/auroc")
    assert told == "Within 0.005 of the unpruned model up to 50 % (good), 0 % (bad)."
    errors = [(_shown("good"), curve(0.9, 0.7, 0.904, 1.5))]
    assert "50 % (good)" in charts.pruning_finding(errors, "test/rmse")


def test_a_curve_that_is_best_at_its_end_asks_for_more_epochs() -> None:
    rising, falling = (pd.DataFrame({0: values}) for values in ([1.0, 2.0], [2.0, 1.0]))
    both = [(_shown("up"), rising), (_shown("down"), falling)]
    assert charts.learning_finding(both, "val/auroc").endswith("more might help: up.")
    assert charts.learning_finding(both, "val/rmse").endswith("more might help: down.")


def test_zero_attributions_are_counted_over_all_seeds_of_a_setting(tmp_path: Path) -> None:
    one = _run(tmp_path / "one", neurons=_neurons({"a": [0, 1], "b": [0]}))
    two = _run(tmp_path / "two", neurons=_neurons({"a": [1, 1], "b": [0]}))
    shares = explanation_agreement.zero_attribution([_shown("both", one, two), _shown("none")])
    assert shares.to_dict("index") == {"both": {"a": 0.25, "b": 1.0}}


def test_agreement_of_settings_is_over_pairs_of_different_runs(tmp_path: Path) -> None:
    runs = [RunRecord(tmp_path, name, "finished") for name in "abc"]
    # Ranks of a and b are the same, those of c the reverse.
    shares = pd.DataFrame({0: [3, 2, 1], 1: [9, 2, 1], 2: [1, 2, 3]}, index=[*"xyz"])
    table = explanation_agreement.agreement_by_setting(
        ExplanationAgreement(runs, [0, 0, 1], shares, shares > 0), [_shown("s"), _shown("t")]
    )
    assert table.loc["s"].tolist() == pytest.approx([1, -1])
    assert table.loc["t", "s"] == pytest.approx(-1)
    assert np.isnan(table.loc["t", "t"])


def test_settings_without_a_curve_have_no_line(tmp_path: Path) -> None:
    run = _run(tmp_path / "r", neurons=_neurons({"a": [1.0]}))
    found = charts.setting_curves([_shown("with", run, run), _shown("without")], concentration)
    assert [(each.label, frame.shape[1]) for each, frame in found] == [("with", 2)]


def test_the_least_important_features_are_one_column() -> None:
    many = pd.DataFrame([np.arange(20.0)], columns=[f"f{i}" for i in range(20)])
    found = explanation_agreement.main_features(many)
    assert list(found)[:2] == ["f19", "f18"]
    assert found["the other 6"].item() == 0 + 1 + 2 + 3 + 4 + 5
    assert list(explanation_agreement.main_features(many.iloc[:, :15])) == [
        f"f{i}" for i in reversed(range(15))
    ]


def test_numbers_are_written_by_what_they_are() -> None:
    told = {"test/auroc": "0.8123", "parameters": "1", "pruned/proven_share": "81.2 %"}
    assert {name: formatter(name)(0.81234) for name in told} == told

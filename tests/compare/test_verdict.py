"""What is called best: against intervals by SciPy, and only where they exclude zero."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

from glassrec.compare.comparison_page import page
from glassrec.compare.page_tables import setting_views, settings_table
from glassrec.compare.run_comparison import ComparisonGroup, RunComparison, compare
from glassrec.compare.scan import scan
from glassrec.compare.terminal import summary_lines
from glassrec.compare.verdict import group_verdict, lower_end, seed_differences

Leave = Callable[..., Path]


@pytest.fixture
def runs(leave: Leave) -> Callable[..., None]:
    """Leaves runs of a setting, one a value, with the seeds 0, 1, ..."""

    def make(lr: float, values: list[float], metric: str = "auroc", **settings: object) -> None:
        for seed, value in enumerate(values):
            metrics = {f"val/{metric}": value, f"test/{metric}": value}
            leave(f"{lr}-{seed}-{len(settings)}", seed=seed, optimizer__lr=lr, metrics=metrics,
                  **settings)  # fmt: skip

    return make


def _comparison(tmp_path: Path, by: str | None = None) -> RunComparison:
    return compare(scan([tmp_path / "runs"]), by)


def _task(tmp_path: Path, by: str | None = None) -> ComparisonGroup:
    (task,) = _comparison(tmp_path, by).groups
    return task


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    first, other = np.random.default_rng(0).normal(size=(2, 6))
    expected = ttest_rel(first, other).confidence_interval(0.95).low
    assert lower_end(first - other, 0.05) == pytest.approx(expected, rel=1e-12)
    assert lower_end(np.ones(1), 0.05) == -inf


def test_differences_that_each_seed_has_make_a_setting_the_best(
    runs: Callable[..., None], tmp_path: Path
) -> None:
    seeds = [0.5, 0.6, 0.7]  # seeds differ by more than the settings do
    runs(0.1, [value + 0.02 for value in seeds])
    runs(0.2, [0.500, 0.601, 0.699])
    found = group_verdict(_task(tmp_path))
    assert found is not None
    assert (found.best, found.seeds) == (True, 3)
    lines = [*summary_lines(_comparison(tmp_path), top=9, width=None)]
    assert any("1 is better than every other" in line and "3 seeds" in line for line in lines)
    assert "Best of planted" in page(_comparison(tmp_path), tmp_path)


@pytest.mark.parametrize("values", [[0.7], [0.7, 0.5, 0.6]])
def test_without_an_interval_that_excludes_zero_nothing_is_called_best(
    runs: Callable[..., None], tmp_path: Path, values: list[float]
) -> None:
    runs(0.1, values)
    runs(0.2, [0.55] * len(values))
    task = _task(tmp_path)
    found = group_verdict(task)
    assert found is not None
    assert found.unclear == [task.settings[1]]
    lines = [*summary_lines(_comparison(tmp_path), top=9, width=None)]
    assert any("highest val/auroc" in li and "not distinguishable from 2" in li for li in lines)
    text = page(_comparison(tmp_path), tmp_path)
    assert "Best of" not in text
    assert "not distinguishable from" in text
    table = settings_table(task, setting_views(task))
    assert not [cell for row in table.rows for cell in row.cells if "best" in cell.kind]


def test_many_settings_need_wider_intervals(runs: Callable[..., None], tmp_path: Path) -> None:
    better = np.array([0.02, 0.03, 0.045, 0.03])
    for lr in range(2, 12):
        runs(lr, [0.5] * 4)
    runs(1, [*(0.5 + better)])
    task = _task(tmp_path)
    first, *others = task.settings
    found = seed_differences(first, others[0], "val/auroc")
    assert found == pytest.approx(better)
    assert lower_end(found, 0.05) > 0
    assert lower_end(found, 0.05 / 10) < 0
    verdict = group_verdict(task)
    assert verdict is not None
    assert verdict.unclear == others


def test_of_an_error_the_lowest_is_first(runs: Callable[..., None], tmp_path: Path) -> None:
    runs(0.1, [0.9], "rmse")
    runs(0.2, [0.8], "rmse")
    assert any(
        "lowest val/rmse" in li for li in summary_lines(_comparison(tmp_path), top=9, width=None)
    )


def test_settings_that_no_metric_depends_on_do_not_part_runs(
    runs: Callable[..., None], tmp_path: Path
) -> None:
    plain = {"prune": {"level": "data", "share": 0.5, "curves": {"draws": 3}},
             "explain": {"pair_rows": 200, "select": {"rows": 2000}}}  # fmt: skip
    other = {"prune": {"level": "data", "share": 0.9, "curves": {"draws": 9}},
             "explain": {"pair_rows": 0, "select": {"rows": 50}}}  # fmt: skip
    runs(0.1, [0.6, 0.7], **plain)
    runs(0.1, [0.6, 0.7, 0.8], **other, tracker={"_target_": "glassrec.tracking.WandB"})
    (setting,) = _task(tmp_path).settings
    assert len(setting.runs) == 5
    # A seed counts once, however often it was run.
    assert setting.n["val/auroc"] == 3
    assert setting.mean["val/auroc"] == pytest.approx(0.7)
    assert setting.std["val/auroc"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("by", "level", "settings"),
    [("val/auroc", "sample", 1), ("pruned/test/auroc", "sample", 2),
     ("pruned/test/auroc", "data", 1)],
)  # fmt: skip
def test_how_rows_are_explained_matters_where_a_cut_follows_from_it(
    leave: Leave, tmp_path: Path, by: str, level: str, settings: int
) -> None:
    for name, rows in (("a", 50), ("b", 60)):
        metrics = {"val/auroc": 0.7, "test/auroc": 0.7, "pruned/test/auroc": 0.6}
        leave(name, metrics=metrics, prune={"level": level},
              explain={"select": {"rows": rows}, "pair_rows": rows})  # fmt: skip
    assert len(_task(tmp_path, by).settings) == settings

"""What is called best: against intervals by SciPy, and only where they exclude zero."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

from glassrec.compare.comparison_page import page
from glassrec.compare.page_tables import setting_views, settings_table
from glassrec.compare.run_comparison import ComparisonGroup, RunComparison, compare
from glassrec.compare.scan import scan
from glassrec.compare.terminal import summary_lines
from glassrec.compare.verdict import group_verdict, paired_differences

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


def test_all_pairs_are_tested_over_the_seeds_that_they_share(
    runs: Callable[..., None], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.01, size=(3, 6))
    drawn = noise + np.array([[0.1], [0.05], [0.04]])
    for lr, (values, seeds) in enumerate(zip(drawn, (6, 5, 2), strict=True), start=1):
        runs(lr / 10, [*values[:seeds]])
    settings = _task(tmp_path).settings
    drawn = drawn[[round(each.runs[0].settings["optimizer.lr"] * 10) - 1 for each in settings]]
    counts = [each.n["val/auroc"] for each in settings]
    found = paired_differences(settings, "val/auroc")
    expected = []
    for first, other in ((0, 1), (0, 2), (1, 2)):
        n = min(counts[first], counts[other])
        test = ttest_rel(drawn[first, :n], drawn[other, :n])
        ends = test.confidence_interval(0.95)
        mean = (drawn[first, :n] - drawn[other, :n]).mean()
        expected.append([first, other, n, mean, ends.low, ends.high, test.pvalue])
    assert found.iloc[:, :7].to_numpy() == pytest.approx(np.array(expected), rel=1e-9)
    # By hand: the least of three p values three times, the next one twice, and none below another.
    small, middle, large = sorted(found["p"])
    steps = [3 * small, max(3 * small, 2 * middle), max(3 * small, 2 * middle, large)]
    assert sorted(found["p_holm"]) == pytest.approx([min(step, 1) for step in steps])


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
    alone = paired_differences([first, others[0]], "val/auroc")
    assert alone["difference"].item() == pytest.approx(better.mean())
    assert alone["p_holm"].item() == alone["p"].item() < 0.01
    verdict = group_verdict(task)
    assert verdict is not None
    assert verdict.pairs == 55
    assert verdict.unclear == others
    (line,) = (
        li for li in summary_lines(_comparison(tmp_path), top=2, width=None) if " than 2" in li
    )
    assert line.endswith("4 seeds: no difference shown")
    assert "No difference shown does not mean equal" in page(_comparison(tmp_path), tmp_path)


def test_the_page_and_the_terminal_say_how_far_two_seeds_and_one_go(
    runs: Callable[..., None], tmp_path: Path
) -> None:
    runs(0.1, [0.70, 0.72, 0.71])
    runs(0.2, [0.60, 0.65])
    runs(0.3, [0.50])
    lines = [*summary_lines(_comparison(tmp_path), top=9, width=None)]
    two = next(line for line in lines if "than 2 " in line)
    assert two.startswith("  than 2   0.0850 (−0.1056 to 0.2756), p 0.111, 2 seeds: ")
    assert two.endswith("no difference shown; the interval of two seeds is wide")
    one = next(line for line in lines if "than 3 " in line)
    assert one == "  than 3   0.2000: no interval: 1 shared seed"
    assert "the interval of two seeds is wide" in page(_comparison(tmp_path), tmp_path)


def test_an_error_is_better_where_it_is_lower(runs: Callable[..., None], tmp_path: Path) -> None:
    runs(0.1, [0.9, 0.91, 0.92], "rmse")
    runs(0.2, [0.8, 0.82, 0.81], "rmse")
    (row,) = paired_differences(_task(tmp_path).settings, "val/rmse").to_dict("records")
    assert row["difference"] == pytest.approx(0.1)


def test_equal_settings_are_not_different(runs: Callable[..., None], tmp_path: Path) -> None:
    runs(0.1, [0.7, 0.8])
    runs(0.2, [0.7, 0.8])
    (row,) = paired_differences(_task(tmp_path).settings, "val/auroc").to_dict("records")
    assert (row["difference"], row["p"], row["p_holm"]) == (0, 1, 1)


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


def test_splits_with_seeds_of_their_own_are_paired_by_split_and_seed(
    leave: Leave, tmp_path: Path
) -> None:
    values = {(0, 0): 0.7, (1, 0): 0.6, (2, 0): 0.8, (None, 3): 0.65}
    for (split, seed), value in values.items():
        for lr, more in ((0.1, 0.02 + value / 100), (0.2, 0.0)):
            found = {"val/auroc": value + more, "test/auroc": value + more}
            data = {"_target_": "glassrec.data.planted.Planted", "split": {"seed": split}}
            leave(f"{lr}-{split}-{seed}", seed=seed, optimizer__lr=lr, metrics=found, data=data)
    first, other = _task(tmp_path).settings
    assert [first.n["val/auroc"], other.n["val/auroc"]] == [4, 4]
    (row,) = paired_differences([first, other], "val/auroc").to_dict("records")
    expected = ttest_rel([0.02 + 1.01 * v for v in values.values()], [*values.values()])
    assert (row["n"], row["p"]) == (4, pytest.approx(expected.pvalue))

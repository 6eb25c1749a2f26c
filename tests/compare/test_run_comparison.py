from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from glassrec.compare.page_tables import certificates, setting_views, settings_table
from glassrec.compare.run_comparison import RunComparison, compare, pareto_front
from glassrec.compare.scan import scan
from glassrec.compare.terminal import summary_lines

Leave = Callable[..., Path]


def _metrics(value: float, name: str = "auroc") -> dict[str, float]:
    return {f"val/{name}": value, f"test/{name}": 1 - value}


def _compare(tmp_path: Path, by: str | None = None) -> RunComparison:
    return compare(scan([tmp_path / "runs"]), by)


def _only_task(tmp_path: Path, by: str | None = None) -> list[dict[str, object]]:
    (task,) = _compare(tmp_path, by).groups
    return [{task.labels[name]: v for name, v in s.differs.items()} for s in task.settings]


def test_runs_that_differ_in_their_seed_alone_are_one_setting(leave: Leave, tmp_path: Path) -> None:
    values = [0.71, 0.74, 0.78]
    for seed, value in enumerate(values):
        leave(f"a/seed_{seed}", seed=seed, metrics=_metrics(value))
    leave("b", seed=1, model__factors=16, metrics=_metrics(0.5))
    (task,) = _compare(tmp_path).groups
    first, second = task.settings
    assert first.differs == {"model.factors": 8}
    assert [run.seed for run in first.runs] == [0, 1, 2]
    assert first.mean["val/auroc"] == pytest.approx(statistics.mean(values))
    assert first.std["val/auroc"] == pytest.approx(statistics.stdev(values))
    assert first.n["val/auroc"] == 3
    assert second.mean["val/auroc"] == 0.5
    assert isnan(second.std["val/auroc"])


def test_only_settings_that_differ_are_shown_under_short_names(
    leave: Leave, tmp_path: Path
) -> None:
    leave("a", trainer__max_epochs=3, optimizer__lr=0.1, metrics=_metrics(0.9))
    leave("b", trainer__max_epochs=4, optimizer__lr=0.1, metrics=_metrics(0.8))
    assert _only_task(tmp_path) == [{"max_epochs": 3}, {"max_epochs": 4}]


def test_names_that_two_settings_share_are_longer(leave: Leave, tmp_path: Path) -> None:
    leave("a", metrics=_metrics(0.9), model__steps=1, trainer__steps=1)
    leave("b", metrics=_metrics(0.8), model__steps=2, trainer__steps=2)
    assert _only_task(tmp_path)[0] == {"model.steps": 1, "trainer.steps": 1}


def test_settings_of_another_model_are_blank(leave: Leave, tmp_path: Path) -> None:
    leave("a", "gmf", metrics=_metrics(0.9))
    leave("b", "mlp", metrics=_metrics(0.8))
    leave("c", "mlp", model__hidden=[64], metrics=_metrics(0.7))
    assert _only_task(tmp_path) == [
        {"model": "gmf"}, {"model": "mlp", "hidden": [32, 16]}, {"model": "mlp", "hidden": [64]}
    ]  # fmt: skip


def test_a_setting_that_older_runs_lack_is_a_difference_only_where_nothing_else_is(
    leave: Leave, tmp_path: Path
) -> None:
    leave("old", metrics=_metrics(0.9))
    leave("new", metrics=_metrics(0.8), model__factors=16, trainer__patience=None)
    assert _only_task(tmp_path) == [{"factors": 8}, {"factors": 16}]
    leave("newer", metrics=_metrics(0.7), trainer__patience=None)
    assert {"factors": 8, "patience": None} in _only_task(tmp_path)


def test_settings_of_a_pruning_sweep_stand_with_the_level_and_not_in_columns_of_their_own(
    leave: Leave, tmp_path: Path
) -> None:
    leave("a", prune={"level": "data", "fold": True})
    for share in (0.3, 0.5):
        leave(f"b{share}", prune={"level": "budget", "fold": True, "share": share})
    assert _only_task(tmp_path) == [
        {"level": "data"}, {"level": "budget (share 0.3)"}, {"level": "budget (share 0.5)"}
    ]  # fmt: skip


def test_the_interval_of_one_seed_is_shown_and_that_of_several_is_their_deviation(
    leave: Leave, tmp_path: Path
) -> None:
    ends = {"val/ndcg@10": 0.5, "test/ndcg@10": 0.4, "test/ndcg@10_low": 0.3,
            "test/ndcg@10_high": 0.45, "test/hr@10": 0.6}  # fmt: skip
    leave("a", metrics=ends)
    leave("b", metrics=ends, optimizer__lr=1)
    leave("c", seed=1, metrics=ends, optimizer__lr=1)
    (task,) = _compare(tmp_path).groups
    one, two = task.settings
    assert one.interval("test/ndcg@10") == (0.3, 0.45)
    assert one.interval("test/hr@10") is two.interval("test/ndcg@10") is None
    lines = [*summary_lines(_compare(tmp_path), top=9, width=None)]
    assert sum("0.4000 (0.3000 to 0.4500)" in line for line in lines) == 1
    cells = [row.cells for row in settings_table(task, setting_views(task)).rows]
    assert [[c.spread for c in row if c.spread] for row in cells] == [[" (0.3000 to 0.4500)"], []]


def test_certificates_are_named_by_setting_and_seed(leave: Leave, tmp_path: Path) -> None:
    leave("somewhere/x", seed=3)
    leave("y", seed=4, optimizer__lr=1)
    (task,) = _compare(tmp_path).groups
    (table,) = certificates(task, setting_views(task))
    assert [row.name for row in table.rows] == ["lr 0.001 · seed 3", "lr 1 · seed 4"]


def test_null_is_a_value_like_others(leave: Leave, tmp_path: Path) -> None:
    leave("a", trainer__patience=None, metrics=_metrics(0.9))
    leave("b", trainer__patience=3, metrics=_metrics(0.8))
    assert _only_task(tmp_path) == [{"patience": None}, {"patience": 3}]


def test_an_error_ranks_upwards(leave: Leave, tmp_path: Path) -> None:
    leave("bad", metrics=_metrics(0.9, "rmse"), optimizer__lr=1)
    leave("good", metrics=_metrics(0.8, "rmse"), optimizer__lr=2)
    assert [each["lr"] for each in _only_task(tmp_path)] == [2, 1]


def test_ranking_is_by_validation_unless_asked(leave: Leave, tmp_path: Path) -> None:
    leave("a", metrics=_metrics(0.9), optimizer__lr=1)
    leave("b", metrics=_metrics(0.8) | {"parameters": 7.0}, optimizer__lr=2)
    assert [each["lr"] for each in _only_task(tmp_path)] == [1, 2]
    assert [each["lr"] for each in _only_task(tmp_path, "test/auroc")] == [2, 1]
    assert [each["lr"] for each in _only_task(tmp_path, "parameters")] == [2, 1]
    with pytest.raises(ValueError, match="did you mean 'test/auroc'"):
        _compare(tmp_path, "test/aurok")


def test_the_metric_that_training_watched_ranks(leave: Leave, tmp_path: Path) -> None:
    both = {"val/auroc": 0.7, "val/log_loss": 0.5, "test/auroc": 0.7}
    leave("a", metrics=both, trainer__monitor="val/log_loss", optimizer__lr=1)
    leave("b", metrics=both, trainer__monitor="val/log_loss", optimizer__lr=2)
    assert _compare(tmp_path).groups[0].by == "val/log_loss"
    leave("c", metrics=both, optimizer__lr=3)
    assert _compare(tmp_path).groups[0].by == "val/auroc"


def test_of_several_targets_the_first_one_that_is_learnt_ranks(
    leave: Leave, tmp_path: Path
) -> None:
    names = ("watched/recall@10", "rated/rmse")  # in the order of the data, not of the alphabet
    metrics = {f"{split}/{name}": 0.5 for split in ("val", "test") for name in names}
    leave("both", metrics=metrics)
    assert _compare(tmp_path).groups[0].by == "val/watched/recall@10"
    leave("ratings", metrics=metrics, objective__weights={"watched": 0})
    assert {task.by for task in _compare(tmp_path).groups} == {
        "val/watched/recall@10", "val/rated/rmse"
    }  # fmt: skip


def test_runs_of_other_data_or_other_metrics_are_another_task(leave: Leave, tmp_path: Path) -> None:
    leave("a")
    leave("wider", model__factors=16)
    leave("harder_negatives", data__negatives=8)
    leave("more_rows", data__rows=4000)
    leave("other_file", files={"u.data": "abc"})
    leave("ratings", metrics=_metrics(0.9, "rmse"))
    tasks = _compare(tmp_path).groups
    assert [sorted(run.name for run in task.runs) for task in tasks] == [
        ["a", "harder_negatives", "wider"], ["more_rows"], ["other_file"], ["ratings"]
    ]  # fmt: skip
    assert len({task.name for task in tasks}) == 4
    assert all(task.name.startswith("planted (") for task in tasks)


def test_runs_that_failed_stand_below_those_of_their_task(leave: Leave, tmp_path: Path) -> None:
    leave("a/seed_0", metrics=_metrics(0.6), files={"u.data": "abc"})
    failed = {"state": "failed", "stage": "train", "problem": "the loss is not finite"}
    leave("a/seed_1", seed=1, metrics={}, status=failed, files={"u.data": "abc"})
    leave("b", metrics={}, status=failed, optimizer__lr=9)
    leave("c", metrics={}, status={"state": "finished", "stage": "explain"}, optimizer__lr=5)
    (task,) = _compare(tmp_path).groups
    first, *others = task.settings
    assert (first.differs, first.n["val/auroc"]) == ({"optimizer.lr": 0.001}, 1)
    assert first.notes == ["1 failed"]
    assert [other.notes for other in others] == [["1 failed"], ["1 not evaluated"]]
    assert [task.is_ranked(setting) for setting in task.settings] == [True, False, False]


def test_a_job_without_settings_belongs_to_no_task(leave: Leave, tmp_path: Path) -> None:
    leave("a")
    (leave("b") / "config.yaml").unlink()
    found = _compare(tmp_path)
    assert [run.name for run in found.ungrouped] == ["b"]
    assert [run.name for run in found.groups[0].runs] == ["a"]


def test_where_nothing_was_evaluated_nothing_is_ranked(leave: Leave, tmp_path: Path) -> None:
    leave("a", metrics={}, optimizer__lr=1)
    leave("b", metrics={}, optimizer__lr=2)
    (task,) = _compare(tmp_path).groups
    assert (task.by, task.shown) == ("", [])
    assert len(task.settings) == 2


def test_trials_that_were_only_trained_are_ranked_by_what_they_came_to(
    leave: Leave, tmp_path: Path
) -> None:
    status = {"state": "finished", "stage": "train"}
    for place in range(3):
        leave(f"t{place}", metrics={}, status=status, optimizer__lr=place)
    jobs = [
        {"number": place, "label": "", "run": f"t{place}", "log": "", "state": "finished",
         "values": [value]}
        for place, value in enumerate((0.2, 0.9, 0.4))
    ]  # fmt: skip
    objectives = [{"metric": "val/auroc", "direction": "maximize"}]
    text = json.dumps({"jobs": jobs, "objectives": objectives})
    (tmp_path / "runs" / "sweep.json").write_text(text)
    (task,) = _compare(tmp_path).groups
    assert task.by == "val/auroc"
    assert [setting.differs["optimizer.lr"] for setting in task.settings] == [1, 2, 0]
    assert task.settings[0].notes == ["1 not evaluated"]


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_front_is_what_nothing_dominates(objectives: int) -> None:
    points = np.random.default_rng(objectives).integers(0, 6, (60, objectives)).astype(float)
    points[7, 0] = np.nan

    def dominated(point: np.ndarray) -> bool:
        return any(
            all(b >= a for a, b in zip(point, other, strict=True))
            and any(b > a for a, b in zip(point, other, strict=True))
            for other in points
        )

    expected = [not (np.isnan(point).any() or dominated(point)) for point in points]
    assert pareto_front(points.tolist()) == expected
    assert any(expected)
    assert pareto_front([]) == []


def test_many_runs_are_grouped_as_a_plain_loop_groups_them(leave: Leave, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    expected: dict[tuple[float, int], list[float]] = {}
    for number in range(50):
        lr, factors, value = 10.0 ** -(number % 4), 2 ** (number % 3), generator.uniform()
        leave(str(number), seed=number, optimizer__lr=lr, model__factors=factors,
              metrics=_metrics(value))  # fmt: skip
        expected.setdefault((lr, factors), []).append(value)
    (task,) = _compare(tmp_path).groups
    found = [
        ((each.differs["optimizer.lr"], each.differs["model.factors"]), each.mean["val/auroc"])
        for each in task.settings
    ]
    means = {key: statistics.mean(values) for key, values in expected.items()}
    assert [key for key, _ in found] == sorted(means, key=lambda key: -means[key])
    assert dict(found) == pytest.approx(means)


def test_cuts_are_a_group_of_their_own_and_are_ranked_by_the_pruned_model_on_validation(
    leave: Leave, tmp_path: Path
) -> None:
    values = {0.3: (0.8, 0.1), 0.5: (0.9, 0.2), 0.7: (0.7, 0.9)}
    run = leave("a", metrics=_metrics(0.85), prune={"level": "data", "share": 0.5})
    leave("b", metrics=_metrics(0.86), prune={"level": "data", "share": 0.5}, model__factors=16)
    (run / "record.json").write_text("{}")
    for share, (val, test) in values.items():
        after = {"pruned/val/auroc": val, "pruned/test/auroc": test}
        prune = {"level": "budget", "share": share}
        leave(f"a/cuts/share={share}", metrics=_metrics(0.85) | after, prune=prune)
    found = {group.by: group for group in _compare(tmp_path).groups}
    cuts = found["pruned/val/auroc"]
    assert cuts.name == "planted (cuts)"
    assert [each.differs for each in cuts.settings] == [
        {"prune.share": share} for share in (0.5, 0.3, 0.7)
    ]  # by validation, though 0.7 is the best on test
    runs = found["val/auroc"]
    assert [each.differs for each in runs.settings] == [{"model.factors": 16}, {"model.factors": 8}]
    (by,) = {group.by for group in _compare(tmp_path, "pruned/test/auroc").groups
             if group.name == cuts.name}  # fmt: skip
    assert by == "pruned/test/auroc"

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from math import isnan
from pathlib import Path

import pandas as pd
import pytest

from glassrec.artifacts import File, StoredTable
from glassrec.artifacts.file_list import IMPORTANCE, NEURONS, PRUNING_CURVES
from glassrec.compare.run_comparison import compare
from glassrec.compare.scan import scan
from glassrec.report.run_record import CERTIFIED_SHARE, RunRecord

Leave = Callable[..., Path]


def _scan(folder: Path) -> dict[str, RunRecord]:
    return {run.name: run for run in scan([folder])}


def _sweep(directory: Path, *jobs: dict[str, object], **more: object) -> None:
    directory.mkdir(parents=True)
    entries = [
        {"number": place + 1, "label": f"job={place}", "words": [], "run": None,
         "log": f"{place}.log", "state": "finished", "problem": "", **job}
        for place, job in enumerate(jobs)
    ]  # fmt: skip
    (directory / "sweep.json").write_text(json.dumps({"command": [], "jobs": entries, **more}))


def test_runs_are_found_at_any_depth_and_each_once(leave: Leave, tmp_path: Path) -> None:
    leave("a")
    leave("deep/er/b")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "deep" / "circle").symlink_to(tmp_path / "runs")
    runs = scan([tmp_path / "runs", tmp_path / "runs" / "a", tmp_path / "runs" / "deep"])
    assert [run.name for run in runs] == ["a", "b"]


def test_a_run_has_settings_metrics_and_its_certified_share(leave: Leave, tmp_path: Path) -> None:
    leave(
        "a", "mlp", 3, metrics={"test/auroc": 0.5, "val/auroc": None}, gone={"data": 2, "domain": 1}
    )
    run = _scan(tmp_path / "runs")["a"]
    assert (run.state, run.stage, run.seed, run.evaluated) == ("finished", "evaluate", 3, True)
    assert run.settings["model"] == "mlp"
    assert run.settings["model.hidden"] == [32, 16]
    assert run.settings["optimizer.lr"] == 0.001
    assert not {"seed", "tracker", "trainer.accelerator", "model._partial_"} & set(run.settings)
    assert run.metrics["test/auroc"] == 0.5
    assert run.metrics["latency_p50_4096"] == 2.0
    assert run.metrics[CERTIFIED_SHARE] == pytest.approx(0.3)
    assert isnan(run.metrics["val/auroc"])


def test_of_a_cut_that_is_not_exact_nothing_is_proven(leave: Leave, tmp_path: Path) -> None:
    leave("a", gone={"budget": 5})
    assert isnan(_scan(tmp_path / "runs")["a"].metrics[CERTIFIED_SHARE])


def test_where_data_lie_makes_no_difference_and_what_a_model_starts_from_does(
    leave: Leave, tmp_path: Path
) -> None:
    leave("a", data__root="/here", start="/runs/first/seed_0")
    settings = _scan(tmp_path / "runs")["a"].settings
    assert "data.root" not in settings
    assert settings["start"] == "first"  # that of another seed is the same setting


def test_the_directory_of_many_seeds_holds_runs_and_is_none(leave: Leave, tmp_path: Path) -> None:
    leave("many", seeds=[0, 1])
    leave("many/seed_0")
    leave("many/seed_1", seed=1)
    leave("more/seed_0")
    assert [*_scan(tmp_path / "runs")] == ["many/seed_0", "many/seed_1", "more/seed_0"]


def test_names_are_the_shortest_ends_that_differ(leave: Leave, tmp_path: Path) -> None:
    for name in ("x/a", "y/a", "y/b", "single/seed_0"):
        leave(name)
    assert [*_scan(tmp_path / "runs")] == ["single/seed_0", "x/a", "y/a", "b"]


def test_a_run_that_no_process_works_on_any_more_has_crashed(leave: Leave, tmp_path: Path) -> None:
    running = {"state": "running", "stage": "train"}
    alive, dead = leave("alive", status=running), leave("dead", status=running)
    (dead / ".lock").unlink()
    with (alive / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        states = {name: run.state for name, run in _scan(tmp_path / "runs").items()}
    assert states == {"alive": "running", "dead": "crashed"}
    assert not (dead / ".lock").exists()
    assert _scan(tmp_path / "runs")["alive"].state == "crashed"


def test_a_run_that_ended_before_its_first_stage_has_failed(leave: Leave, tmp_path: Path) -> None:
    (leave("a") / "status.json").unlink()
    assert _scan(tmp_path / "runs")["a"].state == "failed"


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.yaml", "a: [b"), ("config.yaml", "only words"), ("config.yaml", None),
     ("status.json", "[]"), ("status.json", '{"state": "running"}'), ("metrics.json", "{"),
     ("metrics.json", '{"test/auroc": "high"}'), ("certificate.json", '{"a": 1}')],
)  # fmt: skip
def test_a_damaged_run_is_listed_with_the_reason(
    leave: Leave, tmp_path: Path, name: str, content: str | None
) -> None:
    leave("whole")
    path = leave("hurt") / name
    path.unlink() if content is None else path.write_text(content)
    runs = _scan(tmp_path / "runs")
    assert runs["hurt"].state == "damaged"
    assert runs["hurt"].problem
    assert runs["whole"].state == "finished"


def test_a_table_that_cannot_be_read_is_told_of_when_it_is_wanted(
    leave: Leave, tmp_path: Path
) -> None:
    (leave("a") / "importance.parquet").write_bytes(b"PAR1 and no more")
    run = _scan(tmp_path / "runs")["a"]
    assert run.table(IMPORTANCE) is None
    assert run.table(NEURONS) is None  # it has none
    assert len(run.unreadable) == 1
    assert "importance.parquet" in run.unreadable[0]


def test_a_sweep_lists_jobs_that_never_made_a_directory(leave: Leave, tmp_path: Path) -> None:
    leave("a")
    _sweep(
        tmp_path / "runs" / "sweeps" / "widths",
        {"run": "../../a"},
        {"state": "failed", "problem": "model.widht: no such key"},
        {"run": "../../gone", "state": "killed"},
        {"run": "../../deleted"},
    )
    runs = _scan(tmp_path / "runs" / "sweeps")
    states = {name: run.state for name, run in runs.items()}
    assert states == {
        "a": "finished", "widths 2 job=1": "failed", "widths 3 job=2": "killed",
        "widths 4 job=3": "missing",
    }  # fmt: skip
    assert {run.sweep for run in runs.values()} == {tmp_path / "runs" / "sweeps" / "widths"}
    assert runs["widths 2 job=1"].problem == "model.widht: no such key"
    assert runs["widths 2 job=1"].log == tmp_path / "runs" / "sweeps" / "widths" / "1.log"


def test_a_run_that_two_directories_show_keeps_what_its_sweep_says(
    leave: Leave, tmp_path: Path
) -> None:
    leave("a")
    sweep = tmp_path / "sweeps" / "widths"
    _sweep(sweep, {"run": "../../runs/a"})
    for order in ([sweep, tmp_path / "runs"], [tmp_path / "runs", sweep]):
        assert [run.sweep for run in scan(order)] == [sweep]


@pytest.mark.parametrize(
    ("status", "job", "told"),
    [({"state": "running", "stage": "train"}, "killed", "killed"),
     ({"state": "finished", "stage": "evaluate"}, "failed", "finished"),
     ({"state": "running", "stage": "train"}, "waiting", "crashed"),
     ({"state": "stopped", "stage": "train"}, "stopped", "stopped")],
)  # fmt: skip
def test_a_sweep_knows_how_a_run_ended_that_had_no_time_to_say_so(
    leave: Leave, tmp_path: Path, status: dict[str, str], job: str, told: str
) -> None:
    leave("a", status=status)
    _sweep(tmp_path / "sweep", {"run": "../runs/a", "state": job, "problem": "signal 11"})
    (run,) = scan([tmp_path / "sweep"])
    assert run.state == told
    assert (run.problem == "signal 11") == (told != "crashed")


def test_a_search_tells_its_objectives_and_what_trials_came_to(
    leave: Leave, tmp_path: Path
) -> None:
    leave("a/seed_0")
    objectives = [
        {"metric": "val/auroc", "direction": "maximize"},
        {"metric": "parameters", "direction": "minimize"},
    ]
    _sweep(
        tmp_path / "search",
        {"run": "../runs/a", "values": [0.7, 100]},
        {"values": None, "state": "stopped"},
        objectives=objectives,
    )
    done, stopped = sorted(scan([tmp_path / "search"]), key=lambda run: run.state)
    assert done.objectives == (("val/auroc", "maximize"), ("parameters", "minimize"))
    assert (done.values, stopped.values) == ((0.7, 100), ())


def test_a_damaged_sweep_is_told_of(tmp_path: Path, leave: Leave) -> None:
    leave("a")
    (tmp_path / "runs" / "sweep.json").write_text("{")
    assert {run.state for run in scan([tmp_path / "runs"])} == {"damaged", "finished"}


def test_a_trial_of_many_seeds_is_one(leave: Leave, tmp_path: Path) -> None:
    leave("a", seeds=[0, 1, 2])
    for seed in range(3):
        leave(f"a/seed_{seed}", seed=seed)
    objectives = [{"metric": "val/auroc", "direction": "maximize"}]
    _sweep(tmp_path / "search", {"run": "../runs/a", "values": [0.7]}, objectives=objectives)
    assert [run.values for run in scan([tmp_path / "search"])] == [(0.7,), (), ()]


def test_searches_of_one_name_stay_apart(leave: Leave, tmp_path: Path) -> None:
    objectives = [{"metric": "val/auroc", "direction": "maximize"}]
    for place in "xy":
        leave(place, optimizer__lr=place)
        job = {"run": f"../../../{place}", "values": [0.7]}
        _sweep(tmp_path / "runs" / "sweeps" / place / "search", job, objectives=objectives)
    searches = compare(scan([tmp_path / "runs"])).searches
    assert [[run.name for run in search.trials] for search in searches] == [["x"], ["y"]]


def test_a_job_whose_run_is_a_folder_around_its_sweep_has_none(
    leave: Leave, tmp_path: Path
) -> None:
    leave("a")
    _sweep(tmp_path / "runs" / "sweep", {"run": ".."}, {"run": "."})
    states = {name: run.state for name, run in _scan(tmp_path / "runs").items()}
    assert states == {"a": "finished", "sweep 1 job=0": "missing", "sweep 2 job=1": "missing"}


def test_a_sweep_that_was_moved_away_from_its_runs_says_where_they_should_be(
    leave: Leave, tmp_path: Path
) -> None:
    leave("a")
    _sweep(tmp_path / "runs" / "sweeps" / "s", {"run": "../../a"})
    (tmp_path / "else" / "where").mkdir(parents=True)
    (tmp_path / "runs" / "sweeps" / "s").rename(tmp_path / "else" / "where" / "s")
    (run,) = scan([tmp_path / "else"])
    assert run.state == "missing"
    assert f"no run in {tmp_path / 'else' / 'a'} any more" in run.problem


@pytest.mark.parametrize("kind", ["no right", "no UTF-8"])
def test_a_folder_that_cannot_be_read_or_named_does_not_stop_the_others(
    leave: Leave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    leave("a")
    closed = tmp_path / "runs" / "closed"
    closed.mkdir()
    if kind == "no right":  # whoever is root may read all

        def iterdir(
            path: Path, read: Callable[[Path], Iterator[Path]] = Path.iterdir
        ) -> list[Path]:
            if path == closed:
                raise PermissionError(13, "Permission denied")
            return [*read(path)]

        monkeypatch.setattr(Path, "iterdir", iterdir)
    else:
        closed.rename(os.fsdecode(os.fsencode(closed) + b"\xff"))
    runs = _scan(tmp_path / "runs")
    assert {name: run.state for name, run in runs.items()} == {
        "a": "finished", "closed" + "?" * (kind == "no UTF-8"): "damaged"
    }  # fmt: skip


@pytest.mark.parametrize("file", [IMPORTANCE, NEURONS, PRUNING_CURVES], ids=lambda f: f.name)
def test_a_table_without_its_columns_or_its_numbers_is_told_of(
    leave: Leave, tmp_path: Path, file: File[StoredTable]
) -> None:
    columns = ["player", "layer", "mean_abs", "max_abs", "score", "share", "folded", "epochs"]
    for run, frame in {"a": {"z": [1]}, "b": {column: ["x"] for column in columns}}.items():
        pd.DataFrame(frame).to_parquet(leave(run) / file.name)
        found = _scan(tmp_path / "runs")[run]
        assert found.table(file) is None
        assert f"{file.name}: " in found.unreadable[0]


def test_where_there_is_nothing_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "config.yaml").write_text("a: 1")  # as W&B leaves it
    with pytest.raises(ValueError, match="holds no run and no sweep"):
        scan([tmp_path])
    with pytest.raises(ValueError, match="not a directory that exists"):
        scan([tmp_path / "nowhere"])

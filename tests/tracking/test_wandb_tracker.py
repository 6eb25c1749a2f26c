"""W&B through its real client, offline: naming, identity, what is told once, and what never."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from glassrec.process_exit import Terminated
from glassrec.tracking import Log, NoTracker, TablePreview, WandB
from glassrec.tracking.tracker import tracked_settings

Records = list[dict[str, Any]]
Inspect = Callable[[Path], Records]
Of = Callable[[str, Records], Records]

CONFIG: dict[str, Any] = {
    "seed": 1,
    "data": {"_target_": "glassrec.data.planted.Planted", "rows": 5},
    "model": {"_target_": "glassrec.models.ncf.GMF", "_partial_": True, "factors": 8},
    "run": {"dir": "anywhere"},
}


def _open(directory: Path, tracker: WandB | None = None) -> Log:
    directory.mkdir(parents=True, exist_ok=True)
    return (tracker or WandB()).open(directory, CONFIG, "train")


def test_without_a_key_a_run_is_recorded_offline_and_nobody_is_asked(
    tmp_path: Path, inspect: Inspect, of: Of
) -> None:
    picture = tmp_path / "picture.png"
    Figure().savefig(picture)
    with _open(tmp_path, WandB(tags=["mine"])) as log:
        log.epoch({"epoch": 1, "train/loss": 0.5, "val/auroc": 0.7})
        log.epoch({"epoch": 2, "train/loss": 0.25, "val/auroc": 0.75})
        log.figure("importance", picture, "1")
        log.summary({"test/auroc": 0.8})
    records = inspect(tmp_path)
    (run,) = of("run", records)
    config = run["config"]["update"]
    assert (config["model/factors"], config["data/rows"], run["job_type"]) == (8, 5, "train")
    assert not {"run/dir", "model/_partial_"} & config.keys()
    assert {*run["tags"]} == {"planted", "gmf", "seed 1", "mine"}
    history = of("history", records)
    told = [(h["item"]["epoch"], h["item"]["train/loss"]) for h in history[:2]]
    assert told == [(1, 0.5), (2, 0.25)]
    assert {m["glob_name"]: m["step_metric"] for m in of("metric", records)} == {
        "train/*": "epoch", "val/*": "epoch", "step/*": "step/number", "prune/*": "prune/share",
        "neuron/*": "neuron/rank", "cuts/*": "cuts/share", "figures/*": "figures/version",
    }  # fmt: skip
    assert _summary(of("summary", records))["test/auroc"] == 0.8
    assert [*tmp_path.glob("wandb/*/files/media/images/figures/importance*.png")]
    assert _exit_code(of("exit", records)) == 0


def _summary(updates: Records) -> dict[str, Any]:
    return {name: value for each in updates for name, value in each.get("update", {}).items()}


def _exit_code(exits: Records) -> int:
    (end,) = exits
    return end.get("exit_code", 0)


@pytest.mark.parametrize(
    ("folder", "environment", "name", "group"),
    [
        ("single", {}, "single", ""),
        ("many/seed_3", {}, "many/seed_3", "many"),
        ("one", {"SWEEP": "/x/sweeps/widths", "LABEL": "model=mlp"}, "model=mlp", "widths"),
        ("many/seed_3", {"SWEEP": "/x/sweeps/w", "LABEL": "a=1"}, "a=1/seed_3", "w"),
    ],
)
def test_a_run_is_called_by_what_is_its_own_and_grouped_with_its_like(
    folder: str, environment: Mapping[str, str], name: str, group: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inspect: Inspect, of: Of,
) -> None:  # fmt: skip
    for variable, value in environment.items():
        monkeypatch.setenv(f"GLASSREC_{variable}", value)
    _open(tmp_path / folder).close(0)
    (run,) = of("run", inspect(tmp_path / folder))
    assert (run["display_name"], run.get("run_group", "")) == (name, group)


@pytest.mark.parametrize(
    ("error", "code"),
    [(RuntimeError(), 1), (KeyboardInterrupt(), 130), (Terminated(), 143), (SystemExit(7), 7)],
)
def test_a_run_that_does_not_end_well_is_marked_with_its_exit_code(
    error: BaseException, code: int, tmp_path: Path, inspect: Inspect, of: Of
) -> None:
    with pytest.raises(type(error)), _open(tmp_path):
        raise error
    assert _exit_code(of("exit", inspect(tmp_path))) == code


def test_a_resumed_run_keeps_its_id_and_says_nothing_twice(
    tmp_path: Path, inspect: Inspect, of: Of
) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"weights")
    asked = []

    def rows() -> TablePreview:
        asked.append(1)
        return TablePreview(pd.DataFrame({"a": [1]}), 1, "t.parquet")

    runs, steps = [], []
    for epochs in (2, 3):
        with _open(tmp_path) as log:
            for epoch in range(1, epochs + 1):
                log.epoch({"epoch": epoch, "train/loss": 1 / epoch})
            log.table("t", "1", rows)
            log.curve("prune/share", "1", lambda: [{"prune/share": 0.5, "prune/a": 1.0}])
            log.artifact("checkpoint", [file], {"weights.safetensors": "1"})
        records = inspect(tmp_path)
        runs.append(of("run", records)[0]["run_id"])
        steps.append([(h["item"]["_step"], h["item"].get("epoch")) for h in of("history", records)])
    assert runs[0] == runs[1]
    assert len(asked) == 1
    assert steps == [[(1, 1), (2, 2), (3, None), (4, None)], [(5, 3)]]
    assert of("artifact", records) == []


def test_the_run_of_an_agent_is_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inspect: Inspect, of: Of
) -> None:
    _open(tmp_path).close(0)
    shutil.rmtree(tmp_path / "wandb")  # so that what is read is of the agent's run
    monkeypatch.setenv("WANDB_RUN_ID", "agents1")
    with _open(tmp_path) as log:
        log.epoch({"epoch": 1, "train/loss": 1.0})
    assert of("run", inspect(tmp_path))[0]["run_id"] == "agents1"
    assert of("history", inspect(tmp_path))[0]["item"]["epoch"] == 1
    monkeypatch.delenv("WANDB_RUN_ID")
    _open(tmp_path).close(0)
    assert of("run", inspect(tmp_path))[0]["run_id"] == "agents1"


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "wandb.json").write_text("{")
    with pytest.raises(ValueError, match=r"wandb\.json is damaged; delete it"):
        _open(tmp_path)


def test_a_long_table_is_cut_on_purpose_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], inspect: Inspect, of: Of
) -> None:
    with _open(tmp_path) as log:
        frame = pd.DataFrame({"neuron": range(10_001)})
        log.table("neurons", "1", lambda: TablePreview(frame, 10_001, "neurons.parquet"))
        log.table("short", "1", lambda: TablePreview(frame.head(3), 3, "short.parquet"))
    summary = _summary(of("summary", inspect(tmp_path)))
    assert (summary["tables/neurons.nrows"], summary["tables/short.nrows"]) == (10_000, 3)
    assert capsys.readouterr().out == (
        "wandb     neurons: 10,000 of 10,001 rows and 1 of 1 columns; neurons.parquet has all\n"
    )


def test_no_secret_and_no_home_is_told() -> None:
    kept = {"tokens": 3, "keyboard": "qwerty", "key_size": 8}
    told = tracked_settings(
        {
            "data": {"root": "/home/ada/ml-100k", "api_key": "k", "files": ["/home/ada/a.csv"]},
            "model": {**kept, "auth.token": "t", "password": "p"},
            "trainer": {"url": "https://ada:pw@host/x?sig=abc", "plain": "a?b"},
            "tracker": {"project": "p"},
            "run": {"dir": "/home/ada/runs/1"},
        }
    )
    assert told == {
        "data/root": "ml-100k", "data/files": ["a.csv"], "trainer/url": "https://host/x",
        "trainer/plain": "a?b", **{f"model/{name}": value for name, value in kept.items()},
    }  # fmt: skip


def test_a_tag_that_is_too_long_is_cut_if_ours_and_refused_if_theirs(
    tmp_path: Path, inspect: Inspect, of: Of
) -> None:
    with pytest.raises(ValueError, match=r"tracker\.tags: 't{65}' has 65 characters"):
        WandB(tags=["t" * 65])
    config = CONFIG | {"model": {"_target_": "mine." + "M" * 70}}
    WandB().open(tmp_path, config, "run").close(0)
    assert "m" * 64 in of("run", inspect(tmp_path))[0]["tags"]


def test_the_environment_is_as_before_and_a_disabled_client_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", "mine")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    before = {**os.environ}
    with _open(tmp_path) as log:
        log.epoch({"epoch": 1})
    assert {**os.environ} == before
    assert [*tmp_path.iterdir()] == []


def test_everything_works_without_wandb(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["wandb"] = None
from pathlib import Path
from glassrec.tracking import NoTracker, WandB
with NoTracker().open(Path({str(tmp_path)!r}), {CONFIG!r}, "run") as log:
    log.epoch({{"epoch": 1}})
    log.summary({{"a": 1}})
    log.figure("f", Path("f.png"), "1")
    log.table("t", "1", lambda: 1 / 0)
    log.curve("prune/share", "1", lambda: 1 / 0)
    log.artifact("data", [], {{}})
try:
    WandB().open(Path({str(tmp_path)!r}), {CONFIG!r}, "run")
except ValueError as error:
    assert "needs the package wandb" in str(error), error
else:
    raise AssertionError
assert "pandas" not in sys.modules and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_tracker_leaves_nothing(tmp_path: Path) -> None:
    with NoTracker().open(tmp_path, CONFIG, "run") as log:
        log.epoch({"epoch": 1})
    assert [*tmp_path.iterdir()] == []

"""W&B through its real client, offline; and everything without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from glassrec.tracking import NoTracker, WandB

CONFIG = {
    "seed": 1,
    "data": {"_target_": "glassrec.data.planted.Planted", "rows": 5},
    "model": {"_target_": "glassrec.models.gmf.GMF", "factors": 8},
    "run": {"dir": "anywhere"},
}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def _records(directory: Path) -> list[dict[str, Any]]:
    """What the offline run holds, by wandb's own reader."""
    (run,) = directory.glob("wandb/offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _of(kind: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record[kind] for record in records if record["type"] == kind]


def test_without_a_key_a_run_is_recorded_offline_and_nobody_is_asked(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Figure().savefig(picture)
    with WandB(tags=["mine"]).open(tmp_path, CONFIG) as log:
        log.epoch({"epoch": 1, "train/loss": 0.5, "val/auroc": 0.7})
        log.epoch({"epoch": 2, "train/loss": 0.25, "val/auroc": 0.75})
        log.figure("importance", picture)
        log.summary({"test/auroc": 0.8})
    records = _records(tmp_path)
    (run,) = _of("run", records)
    config = run["config"]["update"]
    assert config["model.factors"] == 8
    assert config["data.rows"] == 5
    assert "run.dir" not in config
    assert {*run["tags"]} == {"planted", "gmf", "mine"}
    history = [record["item"] for record in _of("history", records)]
    assert [(h["epoch"], h["train/loss"]) for h in history[:2]] == [(1, 0.5), (2, 0.25)]
    assert {m["glob_name"]: m["step_metric"] for m in _of("metric", records)} == {
        "train/*": "epoch", "val/*": "epoch",
    }  # fmt: skip
    summary: dict[str, Any] = {}
    for update in _of("summary", records):
        summary |= update["update"]
    assert summary["test/auroc"] == 0.8
    assert [*tmp_path.glob("wandb/*/files/media/images/figures/importance*.png")]
    assert _exit_code(records) == 0


def test_the_runs_of_many_seeds_are_a_group_named_after_their_setting(tmp_path: Path) -> None:
    names = {"single": ("single", ""), "many/seed_3": ("many/seed_3", "many")}
    for folder, (name, group) in names.items():
        (tmp_path / folder).mkdir(parents=True)
        WandB().open(tmp_path / folder, CONFIG).close(failed=False)
        (run,) = _of("run", _records(tmp_path / folder))
        assert (run["display_name"], run.get("run_group", "")) == (name, group)


def _exit_code(records: list[dict[str, Any]]) -> int:
    (end,) = _of("exit", records)
    return end.get("exit_code", 0)


def test_a_failed_run_is_marked_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), WandB().open(tmp_path, CONFIG):
        raise RuntimeError
    assert _exit_code(_records(tmp_path)) == 1


def test_the_same_directory_keeps_its_id(tmp_path: Path) -> None:
    for _ in range(2):
        with WandB().open(tmp_path, CONFIG):
            pass
    files = [*tmp_path.glob("wandb/offline-run-*/run-*.wandb")]
    assert len(files) == 2
    assert len({path.name for path in files}) == 1


def test_everything_works_without_wandb(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["wandb"] = None
from pathlib import Path
from typing import Any
from glassrec.tracking import NoTracker, WandB
with NoTracker().open(Path({str(tmp_path)!r}), {CONFIG!r}) as log:
    log.epoch({{"epoch": 1}})
    log.summary({{"a": 1}})
    log.figure("f", Path("f.png"))
try:
    WandB().open(Path({str(tmp_path)!r}), {CONFIG!r})
except ValueError as error:
    assert "needs the package wandb" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_tracker_leaves_nothing(tmp_path: Path) -> None:
    with NoTracker().open(tmp_path, CONFIG) as log:
        log.epoch({"epoch": 1})
    assert [*tmp_path.iterdir()] == []

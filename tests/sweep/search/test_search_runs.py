"""Trials that are real runs: stopped early by their search, or killed with it by a power cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from glassrec.__main__ import main
from glassrec.process_exit import StoppedEarly
from glassrec.sweep.search import watcher

SMALL = [
    "data.rows=300", "data.users=12", "data.items=8", "trainer=cpu", "trainer.max_epochs=5",
    "trainer.batch_size=64",
]  # fmt: skip
QUICK = [
    "explain.select.rows=20", "explain.method.steps=4", "explain.neurons.steps=4",
    "explain.tolerance=1", "explain/compare=none", "explain.pair_rows=0", "prune/curves=none",
]  # fmt: skip


def test_a_run_that_is_stopped_early_says_so_and_can_go_on(monkeypatch, tmp_path, capsys):
    def stop(row):
        if row["epoch"] == 2:
            raise StoppedEarly("worse than the others")

    command = ["train", "model=gmf", f"run.dir={tmp_path}", *SMALL]
    monkeypatch.setattr(watcher, "watcher", lambda: stop)
    assert main(command) == 3
    status = json.loads((tmp_path / "status.json").read_text())
    assert status == {"state": "stopped", "stage": "train", "problem": "worse than the others"}
    assert not (tmp_path / "weights.safetensors").exists()
    monkeypatch.undo()
    assert main(command) == 0
    assert [line[:9] for line in capsys.readouterr().out.splitlines() if "epoch " in line[:6]] == [
        f"epoch {n}/5" for n in range(1, 6)
    ]


@pytest.mark.long
@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_with_the_trial_that_was_training(tmp_path):
    command = [
        sys.executable, "-m", "glassrec", "search", "model=gmf", "model.factors=range(2,65)",
        *SMALL, *QUICK, "--trials=1", "--dir=s", "--sampler=random",
        "--objective=val/auroc", "--objective=pruned/parameters",
    ]  # fmt: skip
    directory = tmp_path / "s"
    search = subprocess.Popen(command, cwd=tmp_path)
    _wait_for(directory / "trials/1/training.ckpt", search)
    search.kill()
    search.wait()
    os.killpg(_worker_in(directory / "trials/1"), signal.SIGKILL)
    before = _jobs(directory)
    assert [job["state"] for job in before] == ["running"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    jobs = _jobs(directory)
    (job,) = jobs
    assert job["state"] == "finished"
    assert job["words"] == before[0]["words"]
    log = (directory / job["log"]).read_text()
    assert max(log.count(f"epoch {epoch}/") for epoch in range(1, 6)) == 1
    metrics = json.loads((directory / job["run"] / "metrics.json").read_text())
    assert job["values"] == [metrics["val/auroc"], metrics["pruned/parameters"]]


def _jobs(directory: Path) -> list[dict]:
    return json.loads((directory / "sweep.json").read_text())["jobs"]


def _wait_for(file: Path, process: subprocess.Popen) -> None:
    end = monotonic() + 200
    while not file.exists():
        assert process.poll() is None
        assert monotonic() < end
        sleep(0.05)


def _worker_in(run: Path) -> int:
    """The process that holds the lock of a run directory."""
    for file in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            held = file.readlink()
        except OSError:  # it has ended
            continue
        if held == run / ".lock":
            return int(file.parts[2])
    raise AssertionError(f"nothing works in {run}")

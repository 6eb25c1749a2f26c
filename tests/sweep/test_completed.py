"""Which runs are done, and which changes make them stale."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glassrec.config import compose
from glassrec.sweep.planning import CompletedJobs

Finish = Callable[..., dict[str, Any]]


@pytest.fixture
def finished(folder: Path, finish: Callable[[dict[str, Any], str], None]) -> Finish:
    """Leaves the files of a run of these words, and gives its checked configuration."""
    (folder / "columns.yaml").write_text("label: y\nuser: u\nitem: i\n")
    (folder / "rows.csv").write_text("u,i,y\na,b,1\n")

    def make(*words: str, stage: str = "run") -> dict[str, Any]:
        data = ["data=table", "data.path=rows.csv", "data.columns=columns.yaml"]
        config = compose.prepare(stage, [*data, "run.dir=here", *words], sweep=True)
        for seed in config["seeds"] or ():
            finish(compose.of_seed(config, seed), stage)
        finish(config, stage)
        return config

    return make


def _change(path: Path, **facts: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_a_finished_run_is_done_until_something_changes(finished: Finish, folder: Path) -> None:
    config, here = finished(), folder / "here"
    kept = {path: path.read_text() for path in [*here.iterdir(), folder / "rows.csv"]}
    changes: dict[str, Callable[[], object]] = {
        "another setting": lambda: (here / "config.yaml").write_text("seed: 1\n"),
        "another version": lambda: _change(here / "provenance.json", glassrec="0.0.0"),
        "not evaluated": lambda: _change(here / "status.json", stage="prune"),
        "running": lambda: _change(here / "status.json", state="running"),
        "no status": (here / "status.json").unlink,
        "half a file": lambda: (here / "record.json").write_text("{"),
        "an artifact is gone": (here / "metrics.json").unlink,
        "other data": lambda: (folder / "rows.csv").write_text("u,i,y\na,b,0\n"),
        "no data": (folder / "rows.csv").unlink,
    }
    for name, change in changes.items():
        assert CompletedJobs("run")(config), name
        change()
        assert not CompletedJobs("run")(config), name
        for path, text in kept.items():
            path.write_text(text)


def test_each_stage_is_done_for_itself(finished: Finish) -> None:
    config = finished(stage="run")
    stages = ("run", "train", "evaluate", "verify")
    assert [stage for stage in stages if CompletedJobs(stage)(config)] == ["run", "evaluate"]


def test_a_run_that_starts_from_another_sees_for_itself(finished: Finish, folder: Path) -> None:
    (folder / "first").mkdir()
    assert not CompletedJobs("run")(finished("start=first"))
    assert not CompletedJobs("run")(
        finished("model=neumf", "model.pretrained.gmf=first", "run.dir=b")
    )


def test_many_seeds_are_done_when_each_is_and_the_table_is_there(finished: Finish, folder) -> None:
    config = finished("seeds=[0,1]")
    assert not CompletedJobs("run")(config)
    (folder / "here" / "seeds.csv").touch()
    assert CompletedJobs("run")(config)
    (folder / "here" / "seed_1" / "status.json").unlink()
    assert not CompletedJobs("run")(config)

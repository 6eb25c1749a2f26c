"""Sweeps whose jobs are not Glassrec's: a program that does what a file says, or a function."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from glassrec import __version__
from glassrec.config import compose
from glassrec.sweep import launch, planning, sweep_job, warm_process
from glassrec.sweep.planning import SweepRequest
from glassrec.sweep.sweep_job import Outcome

STUB = """
import os, pathlib, sys
seed = next(word[5:] for word in sys.argv if word.startswith("seed="))
with open("starts.txt", "a") as file:
    file.write(seed + "\\n")
print("threads", os.environ.get("OMP_NUM_THREADS"), flush=True)
act = pathlib.Path(f"seed_{seed}.py")
exec(act.read_text() if act.exists() else "")
"""
"""Takes the place of `python -m glassrec`: it does what `seed_K.py` in its folder says."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a test works; the search path is left as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.fixture
def program(folder: Path) -> Path:
    """The stub, as a file."""
    path = folder / "stub.py"
    path.write_text(STUB)
    return path


@pytest.fixture
def stub(program: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jobs of this process run the stub; gives the folder."""
    monkeypatch.setattr(sweep_job, "PROGRAM", str(program))
    monkeypatch.setattr(warm_process, "IMPORTS", [])  # the stub needs none
    return program.parent


@dataclass
class Jobs:
    """What was started, and how the jobs with some words shall end."""

    started: list[list[str]] = field(default_factory=list)
    ends: dict[str, Outcome] = field(default_factory=dict)
    configs: list[dict[str, Any]] = field(default_factory=list)
    checked: dict[str, dict[str, Any]] = field(default_factory=dict)

    def check(self, request: SweepRequest, jobs: Sequence[list[str]]) -> Any:
        """Check as ever, and remember the configuration of each job."""
        kept, found = planning.check_jobs(request, jobs)
        self.checked |= {" ".join(words): each for words, each in zip(kept, found, strict=True)}
        return kept, found

    def supervise(
        self, words: Sequence[str], log: Path, environment: Mapping[str, str], **_: object
    ) -> Outcome:
        """Do at once what a job would do."""
        self.started.append(list(words))
        assert Path(environment["GLASSREC_SWEEP"], "sweep.json").is_file()
        for word, outcome in self.ends.items():
            if word in words:
                return outcome
        checked = self.checked[" ".join(words[1:])]
        self.configs.append(checked)
        if checked["seeds"] is not None:
            finish(checked, words[0])
            (checked["run"]["dir"] / "seeds.csv").write_text("metric,mean,std,n\n")
        for seed in checked["seeds"] or (checked["seed"],):
            many = checked["seeds"] is not None
            finish(compose.of_seed(checked, seed) if many else checked, words[0])
        return Outcome("finished", 0, 2.0)


def finish(config: dict[str, Any], stage: str) -> None:
    """Leave the files of a finished run."""
    directory = config["run"]["dir"]
    directory.mkdir(parents=True, exist_ok=True)
    saved = {name: node for name, node in compose.plain(config).items() if name != "run"}
    (directory / "config.yaml").write_text(yaml.safe_dump(saved, sort_keys=False))
    if config["seeds"] is None:
        from hydra.utils import instantiate

        data = instantiate(config["data"], _convert_="all").fingerprint()
        last = "evaluate" if stage == "run" else stage
        entry = {"key": "", "sha256": "", "inputs": []}
        for name, facts in {
            "status": {"state": "finished", "stage": last},
            "provenance": {"glassrec": __version__, "data": data},
            "record": {"metrics.json": entry},
            "metrics": {"test/auroc": 0.75, "pruned/test/auroc": 0.7},
        }.items():
            (directory / f"{name}.json").write_text(json.dumps(facts))


@pytest.fixture(name="finish")
def _finish() -> Callable[[dict[str, Any], str], None]:
    """Leaves the files of a finished run."""
    return finish


@pytest.fixture
def jobs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Jobs end at once, as told, and leave what finished ones do."""
    jobs = Jobs()
    monkeypatch.setattr(sweep_job, "supervise", jobs.supervise)
    monkeypatch.setattr(launch, "check_jobs", jobs.check)
    return jobs


@pytest.fixture
def recorded(folder: Path) -> Callable[[], list[dict[str, Any]]]:
    """The jobs in the record of the only sweep that there is."""

    def read() -> list[dict[str, Any]]:
        (path,) = folder.glob("runs/sweeps/*/sweep.json")
        found: list[dict[str, Any]] = json.loads(path.read_text())["jobs"]
        return found

    return read

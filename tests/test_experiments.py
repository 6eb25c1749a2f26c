"""Every study of `experiments/` is whole, and its commands are accepted by today's code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from glassrec.config import compose

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path for path in (ROOT / "experiments").iterdir() if path.is_dir())
# The others compare what no setting chooses, by a program of their own.
OF_SETTINGS = [path for path in STUDIES if not (path / "study.py").exists()]

# It stands in for the command line: it asks this process, which need not start for each command.
STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" > asked
read -r code < answered
exit "$code"
"""


@pytest.fixture(params=OF_SETTINGS, ids=lambda path: path.name)
def study(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_study_says_what_it_asks_does_finds_and_makes_of_it(study: Path) -> None:
    text = (study / "README.md").read_text(encoding="utf-8")
    for part in ("**Question.**", "**Command.**", "**Results**", "**Reading.**"):
        assert part in text, part
    results = pd.read_csv(study / "results.csv")
    assert len(results)
    assert {"seed"} <= set(results.columns) or {"seeds"} <= set(results.columns)


def test_its_configuration_composes(study: Path) -> None:
    composed = compose.compose("run", [f"experiment={study.name}"])
    assert composed["model"]["_target_"].startswith("glassrec.models.")


def _accept(stage: str, *words: str) -> None:
    """Check the words with all their types and ranges, and leave what later ones start from."""
    checked = compose.prepare(stage, words)
    directory = Path(checked["run"]["dir"])
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "weights.safetensors").touch()
    if checked["seeds"] is None:
        saved = compose.plain({name: node for name, node in checked.items() if name != "run"})
        (directory / "config.yaml").write_text(yaml.safe_dump(saved))


def test_its_commands_are_accepted(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("bin").mkdir()
    Path("bin/glassrec").write_text(STAND_IN)
    Path("bin/glassrec").chmod(0o755)
    for pipe in ("asked", "answered"):
        os.mkfifo(pipe)
    script = ["sh", "-c", 'bash "$0" data; code=$?; echo end > asked; exit $code']
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    asked, problems = [], []
    with subprocess.Popen([*script, study / "run.sh"], env=os.environ | path) as process:
        while (words := Path("asked").read_text().splitlines()) != ["end"]:
            asked.append(words)
            try:
                _accept(*words)
            except ValueError as problem:
                problems.append(f"{words}: {problem}")
            Path("answered").write_text(f"{len(problems)}\n")  # it waits for the exit code
    assert not problems
    assert process.returncode == 0
    assert any(f"experiment={study.name}" in words for words in asked)

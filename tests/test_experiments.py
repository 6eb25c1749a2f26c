"""Every study of `experiments/` is whole, and its commands are accepted by today's code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path for path in (ROOT / "experiments").iterdir() if path.is_dir())

# It stands in for the command line, checks the words with all their types and ranges, and leaves
# what a run would leave for a later command of the study to start from.
STAND_IN = """#!{python}
import sys
from pathlib import Path
import yaml
from glassrec.config import compose

stage, *words = sys.argv[1:]
checked = compose.prepare(stage, words)
directory = Path(checked["run"]["dir"])
directory.mkdir(parents=True, exist_ok=True)
(directory / "weights.safetensors").touch()
if checked["seeds"] is None:
    saved = compose.plain({{name: node for name, node in checked.items() if name != "run"}})
    (directory / compose.SAVED).write_text(yaml.safe_dump(saved))
with open("composed", "a") as file:
    print(*words, file=file)
"""


@pytest.fixture(params=STUDIES, ids=lambda path: path.name)
def study(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_a_study_says_what_it_asks_does_finds_and_makes_of_it(study: Path) -> None:
    text = (study / "README.md").read_text(encoding="utf-8")
    for part in ("**Question.**", "**Command.**", "**Results**", "**Reading.**"):
        assert part in text, part
    results = pd.read_csv(study / "results.csv")
    assert len(results)
    assert {"seed"} <= set(results.columns) or {"seeds"} <= set(results.columns)


def test_its_configuration_composes(study: Path) -> None:
    from glassrec.config import compose

    composed = compose.compose("run", [f"experiment={study.name}"])
    assert composed["model"]["_target_"].startswith("glassrec.models.")


def test_its_commands_are_accepted(study: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    stand_in = tmp_path / "bin" / "glassrec"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN.format(python=sys.executable))
    stand_in.chmod(0o755)
    done = subprocess.run(
        ["bash", study / "run.sh", "data"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PATH": f"{stand_in.parent}:{os.environ['PATH']}"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "composed").read_text().count(f"experiment={study.name}") >= 1

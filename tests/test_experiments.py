"""Every study of `experiments/` is whole, and its commands are accepted by today's code."""

from __future__ import annotations

import io
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
import json
import sys
from pathlib import Path
from glassrec.config import compose

stage, *words = sys.argv[1:]
checked = compose.prepare(stage, words)
directory = Path(checked["run"]["dir"])
directory.mkdir(parents=True, exist_ok=True)
(directory / "weights.safetensors").touch()
# JSON is YAML, too.
(directory / "config.yaml").write_text(json.dumps(compose.plain(checked)))
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


def test_finished_runs_are_collected(tmp_path: Path) -> None:
    for seed in (10, 9):
        run = tmp_path / "small" / f"seed_{seed}"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(f"seed: {seed}\n")
        (run / "history.csv").write_text(
            "epoch,train/loss,val/rmse\n1,1,0.9\n2,0.8,0.7\n3,0.7,0.8\n"
        )
        (run / "metrics.json").write_text(f'{{"val/rmse": 0.7, "test/rmse": 0.{seed}}}')
    (tmp_path / "small" / "seed_11").mkdir()  # failed
    collect = [sys.executable, ROOT / "experiments" / "collect.py"]
    done = subprocess.run(
        [*collect, tmp_path / "small"], capture_output=True, text=True, check=True
    )
    found = pd.read_csv(io.StringIO(done.stdout)).to_dict("records")
    both = {"run": "small", "epochs": 3, "best_epoch": 2, "val/rmse": 0.7}
    assert found == [
        both | {"seed": 9, "test/rmse": 0.9}, both | {"seed": 10, "test/rmse": 0.1}
    ]  # fmt: skip
    assert subprocess.run([*collect, tmp_path], capture_output=True, check=False).returncode == 2


def test_tables_of_explained_runs_are_joined(tmp_path: Path) -> None:
    for name, value in (("b", 0.5), ("a", 0.123456)):
        (tmp_path / name).mkdir()
        pd.DataFrame({"player": ["x"], "mean": [value]}).to_parquet(
            tmp_path / name / "importance.parquet"
        )
        (tmp_path / name / "explanation.json").write_text('{"baseline": "zero", "rows": 3}')
    tables = [sys.executable, ROOT / "experiments" / "tables.py"]
    runs = [tmp_path / "b", tmp_path / "a"]
    joined = {
        name: subprocess.run([*tables, name, *runs], capture_output=True, text=True, check=True)
        for name in ("importance", "explanation")
    }
    assert joined["importance"].stdout == "run,player,mean\nb,x,0.5\na,x,0.1235\n"
    assert joined["explanation"].stdout == "run,baseline,rows\nb,zero,3\na,zero,3\n"
    missing = subprocess.run(
        [*tables, "neurons", *runs], capture_output=True, text=True, check=False
    )
    assert missing.returncode == 2
    assert "b holds no neurons.parquet" in missing.stderr

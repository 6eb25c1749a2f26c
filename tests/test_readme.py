"""What the README shows works as written."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from glassrec.__main__ import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "guide").glob("*.md"))
)


def test_it_opens_with_the_two_commands_that_do_everything() -> None:
    first = re.search(r"```sh\n(.*?)```", README, re.S)
    assert first is not None
    commands = [line.split("#")[0].strip() for line in first[1].splitlines()]
    assert commands == ["make demo", "make test"]
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "make test"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README shows under their names."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # a command adds the folder that it runs in
    monkeypatch.delitem(sys.modules, "wide_and_deep", raising=False)
    for name, text in re.findall(
        r"```(?:python|yaml)\n# (\S+\.(?:py|yaml))\n(.*?)```", README, re.S
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_python_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(from .*?)```", README, re.S)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "neurons do nothing" in done.stdout


def test_every_option_of_data_and_model_is_in_readme_and_guide() -> None:
    for group in ("data", "model"):
        for path in (ROOT / "configs" / group).glob("*.yaml"):
            assert f"`{path.stem}`" in README, path
            assert f"`{path.stem}`" in GUIDE, path


def test_it_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 220
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.long
def test_the_model_of_the_readme_passes_all_four_stages(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len((folder / "wide_and_deep.py").read_text().splitlines()) <= 30
    (command,) = re.findall(r"^glassrec (run --config-dir .*)$", README, re.M)
    small = [
        "data.rows=2000", "trainer=cpu", "trainer.max_epochs=3", "explain.select.rows=50",
        "explain.faithfulness.rows=20", "explain.faithfulness.points=1", "prune/curves=none",
    ]  # fmt: skip
    monkeypatch.chdir(folder)
    assert main([*command.split(), *small, "run.dir=here"]) == 0
    metrics = json.loads((folder / "here" / "metrics.json").read_text())
    assert metrics["test/auroc"] > 0.55
    assert metrics["explain/relative_delta"] < 0.02
    assert metrics["pruned/max_abs_logit_difference"] < 1e-9
    neurons = pd.read_parquet(folder / "here" / "neurons.parquet")
    assert neurons.groupby("layer").size().to_dict() == {"deep.0": 128, "deep.1": 64}
    dead = metrics["pruned/units"]
    assert (metrics["pruned/parameters"] < metrics["parameters"]) == (dead > 0)


def test_every_command_is_accepted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--cfg job` composes and prints a command's configuration; it runs nothing.

    A sweep has none; `test_pipeline` runs one.
    """
    shown = re.findall(r"^(glassrec (?:run|train) (?!-m).*=.*)$", README + GUIDE, re.M)
    assert len(shown) >= 8
    monkeypatch.chdir(folder)
    for command in shown:
        arguments = shlex.split(command, comments=True)[1:]
        assert main([*arguments, "--cfg", "job"]) == 0, command

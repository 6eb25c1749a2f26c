"""What the README shows works as written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_opens_with_the_two_commands_that_do_everything() -> None:
    first = re.search(r"```sh\n(.*?)```", README, re.S)
    assert first is not None
    commands = [line.split("#")[0].strip() for line in first[1].splitlines()]
    assert commands == ["make demo", "make test"]
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "make test"


def test_the_python_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "neurons do nothing" in done.stdout


def test_every_choice_of_data_and_model_is_in_the_readme() -> None:
    for slot in ("data", "model"):
        for path in (ROOT / "configs" / slot).glob("*.yaml"):
            assert f"`{path.stem}`" in README, path


def test_every_command_is_accepted(tmp_path: Path) -> None:
    """`--cfg job` composes and prints a command's configuration; it runs nothing.

    A sweep has none; `test_pipeline` runs one.
    """
    shown = re.findall(r"^(glassrec (?:run|train) (?!-m).*=.*)$", README, re.M)
    assert shown
    for command in shown:
        words = command.split()[1:]
        done = subprocess.run(
            [sys.executable, "-m", "glassrec", *words, "--cfg", "job"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

"""The import contracts are in force: they hold, and a forbidden import breaks them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = "import sys; from importlinter.cli import lint_imports_command as lint; lint()"
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=root, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_hold(copy: Path) -> None:
    done = _lint(copy)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("models/ncf.py", "import captum"),
        ("prune/plan.py", "from glassrec.explain import features"),
        ("training/job.py", "import hydra"),
        ("report/primitives.py", "import wandb"),
        ("metrics/cost.py", "import lightning"),
        ("models/base.py", "from glassrec.training import trainer"),
    ],
)
def test_a_forbidden_import_breaks_them(copy: Path, file: str, line: str) -> None:
    path = copy / "src" / "glassrec" / file
    text = path.read_text().replace("from __future__ import annotations\n", f"\n{line}\n", 1)
    path.write_text(text)
    done = _lint(copy)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout

"""Where a run comes from: versions of packages, the commit of the code, the command."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import glassrec

PACKAGES = ("torch", "lightning", "captum", "torchmetrics", "hydra-core", "pandas")


def provenance(seed: int, command: Sequence[str], data: Mapping[str, str]) -> dict[str, Any]:
    """The content of `provenance.json`.

    Args:
        seed: of the experiment.
        command: the arguments of the command line; `run.dir` is left out, as a run may be moved.
        data: the sha256 of each data file, by name.
    """
    return {
        "glassrec": glassrec.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "git_commit": git_commit(Path(glassrec.__file__)),
        "seed": seed,
        "command": [word for word in command if not word.startswith("run.dir=")],
        "data": dict(data),
    }


def git_commit(file: Path) -> str | None:
    """The commit of the repository that tracks a source file, `+changes` if it has others.

    None without git, and where the file is not tracked: a package that is installed into an
    environment inside somebody's repository is not of a commit of that repository.
    """
    if _git(file, "ls-files", "--error-unmatch", "--", file.name) is None:
        return None
    return _git(file, "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*")


def _git(file: Path, *arguments: str) -> str | None:
    """The output of a git command in the file's folder; None if it fails or there is no git."""
    command = ["git", "-C", str(file.parent), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return (found.stdout.strip() or None) if found.returncode == 0 else None

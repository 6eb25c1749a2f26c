"""Where a run comes from: versions of packages, the commit of the code, the command.

`provenance.json` holds its own hash, of all its other content, so that a change is seen.
"""

from __future__ import annotations

import hashlib
import json
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


def as_text(facts: Mapping[str, Any]) -> str:
    """The file as it is written: the facts, and their sha256."""
    own = hashlib.sha256(_json(facts).encode()).hexdigest()
    return _json({**facts, "sha256": own})


def read_provenance(path: Path) -> dict[str, Any]:
    """The facts of a file; ValueError if it is missing, or is not as it was written."""
    try:
        text = path.read_text(encoding="utf-8")
        facts: dict[str, Any] = json.loads(text)
        del facts["sha256"]
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing; glassrec run writes it again") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path.name} is damaged; glassrec run writes it again") from None
    if text != as_text(facts):
        raise ValueError(f"{path.name} has changed: it does not fit the sha256 that it holds")
    return facts


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


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

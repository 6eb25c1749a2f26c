"""The commit in `provenance.json` is of the code that ran, or there is none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from glassrec.run.provenance import git_commit


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one tracked file, and an environment that it ignores."""
    _git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("/.venv\n")
    (tmp_path / "analysis.py").write_text("x = 1\n")
    _git(tmp_path, "add", ".")
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    _git(tmp_path, *author, "commit", "-q", "-m", "Begin")
    return tmp_path


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_tracked_file_is_of_a_commit(repository: Path) -> None:
    commit = _git(repository, "rev-parse", "HEAD")
    assert git_commit(repository / "analysis.py") == commit
    (repository / "analysis.py").write_text("x = 2\n")
    assert git_commit(repository / "analysis.py") == f"{commit}+changes"


def test_a_package_that_is_installed_inside_a_repository_is_of_none_of_its_commits(
    repository: Path,
) -> None:
    installed = repository / ".venv" / "lib" / "glassrec" / "__init__.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    assert git_commit(installed) is None
    beside = repository / "untracked.py"
    beside.write_text("")
    assert git_commit(beside) is None


def test_there_is_no_commit_outside_a_repository_or_without_git(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert git_commit(repository / "analysis.py") is None

"""Finished runs whose training data is deleted."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `raw_clicks`

from raw_clicks import HISTORY, FinishedRun, finish

from glassrec.__main__ import main
from glassrec.inference.opened_run import OpenedRun


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A DLRM."""
    words = ["model.embedding=4", "model.bottom=[8]", "model.top=[12,6]"]
    return finish(tmp_path_factory.mktemp("dlrm"), "dlrm", *words)


@pytest.fixture(scope="session")
def sequential(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """An LSTM, which reads the earlier items of the user."""
    words = ["model=lstm", f"data.history={HISTORY}", "data/split=by_time"]
    return finish(tmp_path_factory.mktemp("lstm"), "lstm", *words)


@pytest.fixture(scope="session")
def opened(finished: FinishedRun) -> OpenedRun:
    return OpenedRun.open(finished.directory)


@pytest.fixture(scope="session")
def opened_sequence(sequential: FinishedRun) -> OpenedRun:
    return OpenedRun.open(sequential.directory)


def exported(run: FinishedRun, folder: Path) -> Path:
    """The bundle of a run that was moved, and whose data is deleted."""
    shutil.copytree(run.directory, folder / "run")
    shutil.copytree(folder / "run", folder / "before")
    assert main(["export", f"run.dir={folder / 'run'}"]) == 0
    for path in (folder / "before").rglob("*.*"):
        if path.is_file() and path.name not in ("record.json", "status.json"):
            made = folder / "run" / path.relative_to(folder / "before")
            assert made.read_bytes() == path.read_bytes(), path.name
    moved = folder / "bundle"
    shutil.move(folder / "run" / "bundle", moved)
    return moved


@pytest.fixture(scope="session")
def bundle(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(finished, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def sequence(sequential: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(sequential, tmp_path_factory.mktemp("sequence"))

"""Finished runs whose training data is deleted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `raw_clicks`

from raw_clicks import HISTORY, FinishedRun, finish

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

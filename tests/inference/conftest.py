"""Finished runs whose training data is deleted, and the run's own predictions."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))  # for `raw_clicks`

from raw_clicks import HISTORY, clicks, write_source

from glassrec.__main__ import main
from glassrec.artifacts.file_list import WEIGHTS
from glassrec.config.build import build
from glassrec.config.compose import prepare
from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset
from glassrec.inference.opened_run import OpenedRun
from small_run import QUICK

ROWS = 2000


class FinishedRun(NamedTuple):
    directory: Path
    """moved, with the training data deleted"""
    log: pd.DataFrame
    """the training data as it was"""
    dataset: Dataset
    """as the training had it"""
    logits: Tensor
    """(rows of test, 1): the run's own predictions"""

    @property
    def test(self) -> pd.DataFrame:
        """The raw rows of the test split."""
        keys = self.dataset.row_keys
        assert keys is not None
        return self.log.iloc[keys.loc[keys["split"] == "test", "row"].to_numpy() - 1]

    @property
    def batch(self) -> Batch:
        """The test split as the training encoded it."""
        return self.dataset.test.batch


def finish(folder: Path, name: str, *words: str) -> FinishedRun:
    """Train a small run, then move it and delete its data."""
    log, directory = clicks(ROWS), folder / "runs" / name
    source = write_source(folder / "data", log)
    small = ["trainer=cpu", "trainer.max_epochs=1", "trainer.batch_size=128", "prune/curves=none"]
    assert main(["run", f"run.dir={directory}", "data=table", *source, *small, *words, *QUICK]) == 0
    config = prepare("verify", [f"run.dir={directory}"])
    parts = build(config)
    dataset = parts["data"].load(0)
    own = parts["model"](dataset.schema)
    own.load(WEIGHTS.content.load(directory / WEIGHTS.name).tensors, "weights")
    moved = folder / "elsewhere" / name
    shutil.copytree(directory, moved)
    shutil.rmtree(folder / "data")
    shutil.rmtree(directory)
    return FinishedRun(moved, log, dataset, own.predict(dataset.test.batch))


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

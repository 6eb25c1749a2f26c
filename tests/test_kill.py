"""A small version of `kill_study.py`: one moment of each signal, and chosen places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from glassrec.artifacts import Certificate
from glassrec.data import dataset
from glassrec.data.store import read_store
from glassrec.prune import logit_differences, pruner
from glassrec.stages import outputs
from glassrec.training.module import RecommenderModule
from kill_study import SIGNALS, WORDS, Study, forked, load
from small_run import QUICK, SMALL

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="it reads /proc")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            outputs, "explain_pictures", outputs.explain_pictures
        )  # which `load` replaces
        load()
        yield Study(tmp_path_factory.mktemp("study"), WORDS, forked)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), [("KILL", 0.2), ("TERM", 0.5), ("INT", 0.8)])
def test_a_run_that_is_ended_goes_on_to_the_same_files(
    study: Study, name: str, share: float
) -> None:
    trial = study.trial(name, share * study.seconds, group=name == "INT")
    assert trial.problems == []
    assert trial.code in (0, SIGNALS[name])


ROWS, STEPS = 600, 8
"""Rows of the table, and steps of an epoch: 480 training rows in batches of 64."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """Trains from a store in blocks: each part of an epoch has 64 rows of 4 blocks."""
    folder, random = tmp_path_factory.mktemp("stored"), np.random.default_rng(0)
    city, price = random.integers(0, 9, ROWS), random.random(ROWS).round(3)
    clicked = (random.random(ROWS) < 0.2 + 0.5 * price * (city % 2)).astype(int)
    frame = pd.DataFrame({"city": city.astype(str), "price": price, "clicked": clicked})
    frame.to_csv(folder / "clicks.csv", index=False)
    columns = folder / "columns.yaml"
    columns.write_text("label: clicked\ncategorical: [city]\ndense: [price]\n")
    words = [
        "data=table", f"data.path={folder / 'clicks.csv'}", f"data.columns={columns}",
        f"cache={folder / 'cache'}", *[w for w in SMALL if not w.startswith("data.")], *QUICK,
        "trainer.max_epochs=3", "trainer.batch_size=64", "prune/curves=none", "prune.chunk=64",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "explain_pictures", outputs.explain_pictures)
        load()
        patch.setattr(dataset, "MAX_EPOCH_BYTES", 0)
        patch.setattr(dataset, "BLOCK_ROWS", 16)
        patch.setattr(dataset, "BLOCKS_PER_PART", 4)
        study = Study(folder, words, forked)
        (store,) = (path for path in (folder / "cache").iterdir() if path.is_dir())
        assert len([*read_store(store).epoch_parts(0, 0)]) == STEPS
        yield study


@pytest.mark.long
@pytest.mark.parametrize(
    ("owner", "function", "call", "once"),
    [
        (RecommenderModule, "training_step", 3, []),
        (RecommenderModule, "training_step", STEPS + 5, ["epoch 1/3"]),
        (torch, "save", 2, ["epoch 1/3"]),
        (logit_differences, "logits", 2, ["epoch 3/3", "planning which neurons"]),
        (logit_differences, "logits", 15, ["epoch 3/3", "planning which neurons"]),
        (pruner, "data_digests", 1, ["epoch 3/3", "planning which neurons"]),
        (Certificate, "save", 1, ["epoch 3/3", "planning which neurons"]),
    ],
)
def test_training_in_blocks_and_the_certificate_go_on_to_the_same_files(
    stored: Study, owner: Any, function: str, call: int, once: list[str]
) -> None:
    """Killed in an epoch, while a checkpoint is written, between rows, before a file is there.

    What was complete before is not made again: its lines are in the output of both commands once.
    """
    problems, output = stored.killed_at(owner, function, call)
    assert problems == []
    assert {line: output.count(line) for line in once} == dict.fromkeys(once, 1)

"""Keys beside attributions, against the raw rows of ranking lists, and the hash of the lists."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from glassrec.data.columns import Columns
from glassrec.data.dataset import build_dataset
from glassrec.data.splits import LeaveOneOut
from glassrec.explain.selection import Selection
from glassrec.stages.explain import row_keys_of
from glassrec.stages.train import description
from glassrec.training.objective import Objective
from glassrec.training.trainer import Trainer


def test_keys_of_ranking_lists_are_those_of_the_log() -> None:
    random = np.random.default_rng(0)
    pairs = [(f"u{u}", item) for u in range(8) for item in random.permutation(30)[:6].tolist()]
    log = pd.DataFrame(pairs, columns=["who", "what"]).assign(moment=range(len(pairs)))
    columns = Columns(user="who", item="what", time="moment")
    data = build_dataset(log, columns, LeaveOneOut(5), 0)
    explainer = SimpleNamespace(
        dataset=data, split=data.validation, settings=SimpleNamespace(select=Selection())
    )
    rows = torch.arange(data.validation.batch.rows)
    found = {name: column.to_pylist() for name, column in row_keys_of(explainer, rows).items()}  # type: ignore[arg-type]
    labels = data.validation.batch.targets[:, 0].tolist()
    assert len(labels) == 8 * 6
    second_last = log.groupby("who").nth(-2)
    for user, item, line, label in zip(
        found["@user"], found["@item"], found["@line"], labels, strict=True
    ):
        own = second_last[second_last["who"] == user]
        if label:
            assert line == own.index[0] + 1
            assert item in (own["what"].iloc[0], None)
        else:
            assert line is None
            assert item not in own["what"].tolist()
    assert sum(item is None for item in found["@item"]) < 8


def test_the_facts_of_the_data_hold_a_hash_of_the_lists_that_the_seed_draws() -> None:
    log = pd.DataFrame({"who": [0, 0, 0, 1, 1, 1], "what": [1, 2, 3, 4, 5, 6]})
    log["moment"] = range(6)
    columns = Columns(user="who", item="what", time="moment")

    def found(seed: int) -> object:
        data = build_dataset(log, columns, LeaveOneOut(1), seed)
        settings = SimpleNamespace(trainer=Trainer(1, 1), objective=Objective())
        context = SimpleNamespace(dataset=data, settings=settings, metrics={})
        return description(context)["lists_sha256"]  # type: ignore[arg-type]

    assert found(0) == found(0)
    assert len({found(seed) for seed in range(9)}) > 1

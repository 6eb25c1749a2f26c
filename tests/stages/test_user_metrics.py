"""The user's own torchmetrics in a run, before and after pruning; for one, lower is better."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from sklearn.metrics import brier_score_loss, fbeta_score
from torch import Tensor
from torchmetrics import Metric

from glassrec.__main__ import main
from glassrec.data.planted import Planted
from glassrec.inference.opened_run import OpenedRun
from glassrec.metrics.metadata import BUILT_IN
from glassrec.metrics.pointwise import click_metrics, ranking_metrics, rating_metrics
from glassrec.metrics.retrieval import PLACES
from glassrec.metrics.user_metrics import user_metrics
from small_run import QUICK, SMALL

METRICS = [
    "+metrics.brier._target_=torchmetrics.MeanSquaredError",
    "+metrics.f2._target_=torchmetrics.classification.BinaryFBetaScore", "+metrics.f2.beta=2.0",
    "trainer.monitor=val/brier", "trainer.max_epochs=3",
]  # fmt: skip


def test_they_are_those_of_scikit_learn_on_both_splits_of_both_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"run.dir={tmp_path}"
    pruning = ["prune.level=budget", "prune.share=.5", "prune/curves=none"]
    assert main(["run", where, *SMALL, *QUICK, *METRICS, *pruning]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "metrics.json").read_text())
    data = Planted(rows=600, users=12, items=8).load(seed=0)
    run = OpenedRun.open(tmp_path)
    for prefix, model in (("", run.model), ("pruned/", run.pruned)):
        for name, split in (("val", data.validation), ("test", data.test)):
            truth = split.batch.targets[:, 0].long().numpy()
            with torch.no_grad():
                predicted = model(split.batch)[:, 0].double().sigmoid().numpy()
            brier, f2 = (found[f"{prefix}{name}/{metric}"] for metric in ("brier", "f2"))
            assert brier == pytest.approx(brier_score_loss(truth, predicted), abs=1e-6)
            assert f2 == pytest.approx(fbeta_score(truth, predicted > 0.5, beta=2), abs=1e-6)
    assert f"test/brier {found['test/brier']:.4f} as trained" in printed
    history = pd.read_csv(tmp_path / "history.csv")
    assert found["val/brier"] == pytest.approx(history["val/brier"].min(), abs=1e-9)
    assert main(["verify", where]) == 0


class SumOfLists(Metric):
    """How many lists there are, of an `update` that takes lists by its own signature."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("lists", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, indexes: Tensor) -> None:
        assert len(preds) == len(target) == len(indexes)
        self.lists += len(indexes.unique())

    def compute(self) -> Tensor:
        return self.lists


def test_any_metric_with_indexes_gets_the_lists() -> None:
    data = Planted(rows=600, users=12, items=8).load(seed=0)
    split = replace(data.test, query=torch.arange(len(data.test.batch.ids)) // 2)
    logits = torch.zeros(split.batch.rows, 1)
    found = user_metrics({"lists": SumOfLists()}, data.schema, split, logits)
    assert found == {"lists": (split.batch.rows + 1) // 2}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["+metrics.auroc._target_=torchmetrics.MeanSquaredError"], ("metrics.auroc", "rename")),
        (
            ["+metrics._target_=torchmetrics.MeanSquaredError"],
            ("metrics: MeanSquaredError", "name"),
        ),
        (["+metrics.mine=3"], ("metrics.mine", "3", "_target_")),
        (["trainer.monitor=val/aurok"], ("trainer.monitor", "'val/aurok'", "'val/auroc'")),
        (["trainer.monitor=auroc"], ("trainer.monitor", "'auroc'", "'val/auroc'")),
    ],
)
def test_what_no_metric_is_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], parts: tuple[str, ...]
) -> None:
    assert main(["run", f"run.dir={tmp_path}/run", "--dry-run", *words]) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts), message
    assert not (tmp_path / "run").exists()


def test_every_metric_of_glassrec_is_a_reserved_name() -> None:
    click, rating = torch.tensor([0.0, 1, 1, 0]).double(), torch.tensor([1.0, 3, 2, 5]).double()
    score, query = torch.tensor([0.1, 0.7, -0.2, 0.3]).double(), torch.tensor([0, 0, 1, 1])
    names = {*click_metrics(score, click), *click_metrics(score, click, query)}
    names |= {*ranking_metrics(score, click == 1, query), *rating_metrics(score, rating)}
    assert {name.removesuffix("_low").removesuffix("_high") for name in names} <= BUILT_IN
    assert {f"{each}@{k}" for each in ("hr", "ndcg", "recall") for k in PLACES} <= BUILT_IN

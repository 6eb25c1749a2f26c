"""The user's own torchmetrics in a run, before and after pruning; for one, lower is better."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from sklearn.metrics import brier_score_loss, fbeta_score

from glassrec.__main__ import main
from glassrec.data.planted import Planted
from glassrec.inference.opened_run import OpenedRun
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

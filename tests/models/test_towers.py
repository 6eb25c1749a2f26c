"""Towers with other activations, dropout and batch normalisation, and runs of them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from glassrec.__main__ import main
from glassrec.data.planted import Planted
from glassrec.models.dlrm import DLRM
from glassrec.models.layers import Tower
from glassrec.training.trainer import Trainer
from small_run import QUICK, SMALL


def _trained_tower(**settings: object) -> Tower:
    """Its normalisations have seen some batches, and have weights of their own."""
    torch.manual_seed(0)
    tower = Tower([5], [7, 4], **settings)  # type: ignore[arg-type]
    for _ in range(20):
        tower(torch.randn(64, 5) * 3 + 1)
    for layer in tower:
        nn.init.normal_(layer.norm.weight)
        nn.init.normal_(layer.norm.bias)
    return tower


def test_a_folded_normalisation_is_that_of_evaluation() -> None:
    """By PyTorch's own layers, in evaluation mode."""
    tower, rows = _trained_tower(activation="gelu", dropout=0.5, batch_norm=True), torch.randn(9, 5)
    expected = rows
    for layer in tower.eval():
        linear = F.linear(expected, layer.affine.weight, layer.affine.bias)
        norm = nn.BatchNorm1d(layer.size).eval()
        norm.load_state_dict(layer.norm.state_dict())
        expected = F.gelu(norm(linear))
    assert_close(tower(rows), expected)
    for layer in tower:
        layer.fold_norm()
    assert_close(tower(rows), expected)
    assert "0.norm.weight" not in tower.state_dict()
    fresh = Tower([5], [7, 4], "gelu", 0.5, True).eval()
    fresh.load_state_dict(tower.state_dict())
    assert torch.equal(fresh(rows), tower(rows))


def test_dropout_is_of_training_alone_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    tower, row = Tower([5], [4000], dropout=0.25), torch.randn(1, 5)
    dropped = tower(row)
    whole = tower.eval()(row)
    kept = dropped != 0
    assert_close(dropped[kept], whole[kept] / 0.75)
    assert 0.7 < (kept.sum() / (whole != 0).sum()).item() < 0.8


def test_the_trainer_gives_weights_without_normalisations(tmp_path: Path) -> None:
    data = Planted(rows=400, users=10, items=8).load(seed=0)
    torch.manual_seed(0)
    model = DLRM(data.schema, 4, [8], [8], dropout=0.1, batch_norm=True)
    first = deepcopy(model)
    trainer = Trainer(max_epochs=2, batch_size=64)
    given = {"seed": 0, "directory": tmp_path, "quiet": True}
    trained = trainer.fit(model, data, torch.optim.Adam, **given)
    assert not [name for name in trained.weights if "norm" in name]
    assert trained.weights.keys() == model.state_dict().keys()
    rows = data.validation.batch
    found = model.predict(rows)
    again = deepcopy(first)
    again.load(trained.weights, "test")
    assert torch.equal(again.predict(rows), found)
    best = trained.history["val/log_loss"].loc[trained.history["val/auroc"].idxmax()]
    loss = F.binary_cross_entropy_with_logits(found.double(), rows.targets.double())
    assert loss.item() == pytest.approx(best, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["gelu", "tanh"])
def test_a_run_is_explained_pruned_verified_and_exported(tmp_path: Path, activation: str) -> None:
    """Some neurons always give the same value, which is not 0: the cut folds it."""
    words = [f"run.dir={tmp_path}", *SMALL, *QUICK, f"model.activation={activation}",
             "model.dropout=0.1", "model.batch_norm=true", "figures=false",
             "prune.level=budget", "prune.share=0.5", "prune/curves=none"]  # fmt: skip
    assert main(["run", *words]) == 0
    assert main(["verify", f"run.dir={tmp_path}"]) == 0
    weights = load_file(tmp_path / "pruned.safetensors")
    assert len(weights["top.0.affine.bias"]) == 6


def test_the_proof_for_all_inputs_names_an_activation_that_it_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run.dir={tmp_path}", *SMALL, *QUICK, "figures=false", "prune/curves=none"]
    assert main(["train", *words, "model.activation=gelu"]) == 0
    assert main(["prune", *words, "model.activation=gelu", "prune.level=domain"]) == 1
    assert "gelu" in capsys.readouterr().err

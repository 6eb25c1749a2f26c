"""The study of a trained DLRM from elsewhere: a checkpoint, batches, and the way back."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import glassrec
from glassrec.__main__ import main
from glassrec.artifacts.file_list import DLRM_CHECKPOINT
from glassrec.data.batch import Batch, Split
from glassrec.data.dataset import Dataset
from glassrec.data.dlrm_batches import DLRMBatches
from glassrec.explain.explainer import Explain
from glassrec.explain.explanation_tables import neuron_scores
from glassrec.explain.selection import Selection
from glassrec.models.dlrm import DLRM
from plain_dlrm import PLANTED, PlainDLRM, batch, by_hand, state_dict, write
from small_run import QUICK

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "dlrm_checkpoints.md"
LAYERS = {"bot_l.0": "bottom.0", "bot_l.2": "bottom.1", "top_l.0": "top.0", "top_l.2": "top.1"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, dict]:
    """The folder of a run on bags with labels and outputs, its weights and its rows."""
    folder = tmp_path_factory.mktemp("study")
    state, rows = state_dict(), batch(bags=True, rows=120)
    logits = torch.from_numpy(by_hand(state, rows)).unsqueeze(1)
    rows |= {"probs": logits.sigmoid().float(), "T_test": (logits > logits.median()).float()}
    write(folder, state, rows)
    assert main(_command(folder, "model.pt", "run")) == 0
    return folder, state, rows


def _command(folder: Path, weights: str, run: str) -> list[str]:
    """The command of the guide, with files in a folder and quick settings."""
    (shown,) = re.findall(r"^glassrec (run .*)$", GUIDE.read_text(), re.M)
    for name, here in {"model.pt": weights, "batches.pt": "batches.pt", "runs/study": run}.items():
        shown = shown.replace(name, str(folder / here))
    return [*shown.split(), "trainer=cpu", "prune/curves=none", *QUICK]


def test_planted_neurons_are_cut_and_the_run_verifies(study, capsys) -> None:
    folder, _, _ = study
    plan = json.loads((folder / "run" / "plan.json").read_text())["layers"]
    for layer, (unit, value) in PLANTED.items():
        constants = plan[LAYERS[layer]]["constants"]
        assert constants[str(unit)] == max(value, 0.0)
    certificate = json.loads((folder / "run" / "certificate.json").read_text())
    assert certificate["rows"] == {"train": 24, "val": 48, "test": 48}
    assert certificate["max_abs_logit_difference"] <= 1e-12
    assert "values in training" not in (folder / "run" / "report.html").read_text()
    assert main(["verify", f"run.dir={folder / 'run'}"]) == 0
    assert "everything is as recorded" in capsys.readouterr().out


def test_the_pruned_model_goes_back_into_the_layout(study, capsys) -> None:
    folder, state, rows = study
    assert main(["export", f"run.dir={folder / 'run'}"]) == 0
    assert "dlrm.pt: the same for facebookresearch/dlrm" in capsys.readouterr().out
    small = torch.load(folder / "run" / DLRM_CHECKPOINT.name, weights_only=True)
    assert len(small["top_l.0.weight"]) < len(state["top_l.0.weight"])
    offsets, ids = [*rows["lS_o_test"]], [*rows["lS_i_test"]]
    with torch.no_grad():
        exact = PlainDLRM(small).double()(rows["X_test"].double(), offsets, ids).logit()
        single = PlainDLRM(small).float()(rows["X_test"], offsets, ids).logit()
    expected = by_hand(state, rows)
    np.testing.assert_allclose(exact[:, 0], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(single[:, 0], expected, rtol=0, atol=1e-5)
    # A run that starts from it compares its probabilities with those of the file.
    again = _command(folder, "run/dlrm.pt", "again")
    assert main(["train", *again[1:]]) == 0
    assert "probabilities of 120 rows are those of the data" in capsys.readouterr().out


def test_other_weights_than_those_of_the_batches_are_refused(study, capsys) -> None:
    folder, state, _ = study
    torch.save(
        {"state_dict": state | {"top_l.4.bias": state["top_l.4.bias"] + 1}}, folder / "other.pt"
    )
    command = ["train", *_command(folder, "other.pt", "refused")[1:]]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "in the data, and 0." in error
    assert "set data.check_probs=false" in error
    assert not (folder / "refused" / "weights.safetensors").exists()
    unchecked = ["data.check_probs=false", f"run.dir={folder / 'unchecked'}"]
    command = [word for word in command if not word.startswith("run.dir")]
    assert main([*command, *unchecked]) == 0


@pytest.mark.skipif(not hasattr(Dataset, "labelled"), reason="data without labels is not known")
def test_rows_without_labels_are_explained_and_pruned(study, tmp_path) -> None:
    _, state, rows = study
    write(tmp_path, state, {name: rows[name] for name in rows if name != "T_test"})
    assert main(_command(tmp_path, "model.pt", "run")) == 0
    certificate = json.loads((tmp_path / "run" / "certificate.json").read_text())
    assert certificate["max_abs_logit_difference"] <= 1e-12


@pytest.mark.parametrize("bags", [False, True])
def test_attributions_and_conductances_are_those_of_the_wrapped_module(tmp_path, bags) -> None:
    state, rows = state_dict(), batch(bags)
    checkpoint, path = write(tmp_path, state, rows)
    data = DLRMBatches(path, checkpoint).load(seed=0)
    parts = zip(*(split.batch for split in data.splits.values()), strict=True)
    joined = Batch(*map(torch.cat, parts))
    joined = joined.select(joined.targets[:, 0].argsort())
    model = DLRM(data.schema, weights=checkpoint).eval()
    model.take_over(lambda model, run: None)
    settings = Explain(select=Selection(split="train", rows=None))
    own = settings.build_explainer(model, replace(data, train=Split(joined)), 0)
    inputs = (rows["X_test"], [*rows["lS_o_test"]], [*rows["lS_i_test"]])
    other = glassrec.wrap(PlainDLRM(state), inputs).explainer(inputs)
    mine, theirs = own.attributions().values, other.attributions().values
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    mine, theirs = (
        neuron_scores(each).set_index(["layer", "unit"])["mean_abs"] for each in (own, other)
    )
    for there, here in LAYERS.items():
        np.testing.assert_allclose(mine[here], theirs[there], rtol=1e-4, atol=1e-5)

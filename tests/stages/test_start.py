"""A run that starts from another: pruned again, trained on, and refused where it does not fit."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glassrec.__main__ import main
from glassrec.artifacts.file_list import WEIGHTS
from glassrec.config import compose
from glassrec.pipeline import Pipeline
from glassrec.run import Run, sha256
from glassrec.stages.context import Context, TrainedModel
from small_run import QUICK, SMALL

WORDS = [word for word in SMALL if not word.startswith("trainer.max_epochs")]
WORDS += [*QUICK, "prune/curves=none"]
PROVEN = 2.0**-60
"""A number that float32 has no room for beside a bias."""


def _run(directory: Path, *words: str, stage: str = "run") -> int:
    return main([stage, f"run.dir={directory}", *WORDS, *words])


def _same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    assert left.keys() == right.keys()
    return all(
        torch.equal(tensor, right[name]) and tensor.dtype == right[name].dtype
        for name, tensor in left.items()
    )


@pytest.fixture(scope="module")
def cut(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose pruned model is narrow, with a bias in float64; tests leave it alone.

    `top.0` lost its units 0 and 5; of those left, unit 7 emits the same on every row.
    """
    directory = shutil.copytree(trained, tmp_path_factory.mktemp("start") / "run")
    weights = load_file(directory / "weights.safetensors")
    kept = [unit for unit in range(12) if unit not in (0, 5)]
    weights["top.0.affine.weight"][7] = 0
    weights["top.0.affine.bias"][7] = 0.3
    for name in ("top.0.affine.weight", "top.0.affine.bias", "top.0.units"):
        weights[name] = weights[name][kept].clone()
    weights["top.1.affine.weight"] = weights["top.1.affine.weight"][:, kept].clone()
    weights["top.1.affine.parts"] = torch.tensor([10])
    weights["top.1.affine.bias"] = torch.full((6,), 0.125).double() + PROVEN
    save_file(weights, directory / "pruned.safetensors")
    return directory


@pytest.fixture(scope="module")
def again(cut: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of no epoch that starts from the pruned one."""
    directory = tmp_path_factory.mktemp("again") / "run"
    assert _run(directory, f"start={cut}", "trainer.max_epochs=0") == 0
    return directory


def test_without_an_epoch_the_weights_are_the_start_s_to_the_bit(cut: Path, again: Path) -> None:
    found = load_file(again / "weights.safetensors")
    assert _same(found, load_file(cut / "pruned.safetensors"))
    assert found["top.1.affine.bias"].dtype == torch.float64
    history = pd.read_csv(again / "history.csv")
    assert len(history) == 0
    assert {"epoch", "train/loss", "val/auroc"} <= {*history}


def test_what_it_started_from_is_certified_and_verified(cut: Path, again: Path) -> None:
    file = cut / "pruned.safetensors"
    certificate = json.loads((again / "certificate.json").read_text())
    assert certificate["given"]["start"] == {"weights": sha256(file)}
    assert main(["verify", f"run.dir={again}"]) == 0


def test_units_refer_to_the_network_as_it_was_built(again: Path) -> None:
    neurons = pd.read_parquet(again / "neurons.parquet")
    names = neurons.loc[neurons["layer"] == "top.0", "name"]
    assert {*names} == {f"top.0[{unit}]" for unit in range(12) if unit not in (0, 5)}
    top = json.loads((again / "plan.json").read_text())["layers"]["top.0"]
    assert top["built"] == 12
    assert 7 in top["dropped"]["data"]
    assert not {0, 5} & {*top["kept"], *top["dropped"]["data"]}
    units = load_file(again / "pruned.safetensors")["top.0.units"].tolist()
    assert units == top["kept"]
    certificate = json.loads((again / "certificate.json").read_text())
    assert certificate["max_abs_logit_difference"] <= 1e-9


def test_the_exact_model_has_the_very_numbers(cut: Path, again: Path) -> None:
    checked = compose.prepare("train", [f"run.dir={again}"])
    with closing(Run(again, compose.plain(checked))) as run:
        context = Context(Pipeline(run=run, **compose.build(checked)))
        weights = TrainedModel(context, run.read(WEIGHTS)).reference_model.state_dict()
        assert not run.new_files
    for name, tensor in load_file(cut / "pruned.safetensors").items():
        expected = tensor.double() if tensor.is_floating_point() else tensor
        assert torch.equal(weights[name], expected), name


def test_with_an_epoch_it_trains_in_float32_and_stays_narrow(cut: Path, tmp_path: Path) -> None:
    start = load_file(cut / "pruned.safetensors")
    start["output.bias"] += 3  # so wrong that an epoch is better
    save_file(start, tmp_path / "start.safetensors")
    words = [f"start={tmp_path}/start.safetensors", "trainer.monitor=val/log_loss"]
    assert _run(tmp_path / "run", *words, "trainer.max_epochs=1", stage="train") == 0
    found = load_file(tmp_path / "run" / "weights.safetensors")
    assert {name: tensor.shape for name, tensor in found.items()} == {
        name: tensor.shape for name, tensor in start.items()
    }
    assert torch.equal(found["top.0.units"], start["top.0.units"])
    assert found["top.1.affine.bias"].dtype == torch.float32
    moved = (found["top.1.affine.bias"] - start["top.1.affine.bias"]).abs().max()
    assert 0 < moved < 0.1
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert [*history["epoch"]] == [0, 1]
    assert history["val/log_loss"].idxmin() == 1


def test_a_file_and_a_run_without_a_cut_are_starts_too(cut: Path, tmp_path: Path) -> None:
    trained = load_file(cut / "weights.safetensors")
    save_file(trained, tmp_path / "mine.safetensors")
    (tmp_path / "uncut").mkdir()
    save_file(trained, tmp_path / "uncut" / "weights.safetensors")
    for start in ("mine.safetensors", "uncut"):
        words = [f"start={tmp_path / start}", "trainer.max_epochs=0"]
        assert _run(tmp_path / f"of {start}", *words, stage="train") == 0
        assert _same(load_file(tmp_path / f"of {start}" / "weights.safetensors"), trained)


def test_without_a_start_and_an_epoch_a_run_is_a_random_network(tmp_path: Path) -> None:
    assert _run(tmp_path / "a", "trainer.max_epochs=0", stage="train") == 0
    assert _run(tmp_path / "b", "trainer.max_epochs=0", "seed=1", stage="train") == 0
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in "ab")
    assert not torch.equal(one["table.weight"], other["table.weight"])


def test_a_start_that_holds_no_model_is_refused(
    cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no weights")
    for start, code, said in (
        ("missing", 2, f"start: {tmp_path}/missing is not allowed; must be "),
        ("empty", 2, f"start: {tmp_path}/empty holds no weights.safetensors; train it first"),
        ("notes.txt", 2, f"start: {tmp_path}/notes.txt is damaged ("),
    ):  # fmt: skip
        assert _run(tmp_path / "run", f"start={tmp_path / start}", stage="train") == code
        assert said in capsys.readouterr().err


def test_a_run_has_one_start_and_it_is_no_path(
    cut: Path, again: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (again / "weights.safetensors").stat().st_mtime_ns
    shutil.copytree(cut, tmp_path / "moved")
    words = [f"start={tmp_path / 'moved'}", "trainer.max_epochs=0"]
    assert _run(again, *words) == 0
    assert "nothing to make" in capsys.readouterr().out
    assert (again / "weights.safetensors").stat().st_mtime_ns == before
    assert _run(again, "trainer.max_epochs=0") == 2
    assert "start: None is not allowed; the run in" in capsys.readouterr().err
    assert _run(again, f"start={again}", "trainer.max_epochs=0") == 2
    assert "is this run; name another run.dir" in capsys.readouterr().err


def test_a_changed_start_makes_the_run_stale(cut: Path, tmp_path: Path) -> None:
    weights = load_file(cut / "weights.safetensors")
    start = tmp_path / "mine.safetensors"
    for shift in (0.0, 1.0):
        changed = weights | {"output.bias": weights["output.bias"] + shift}
        save_file(changed, start)
        words = [f"start={start}", "trainer.max_epochs=0"]
        assert _run(tmp_path / "run", *words, stage="train") == 0
        assert _same(load_file(tmp_path / "run" / "weights.safetensors"), changed)

"""`glassrec export`: a program that runs without Glassrec and gives the same scores."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from glassrec.__main__ import main
from glassrec.artifacts import Weights
from glassrec.artifacts.programs import as_onnx, as_pt2
from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.models.base import Recommender
from glassrec.stages.export import description
from glassrec.stages.program import INPUTS, LOGITS, export_program
from small_run import QUICK

CONFIGS = Path(__file__).parents[2] / "configs" / "model"
MODELS = [path for path in sorted(CONFIGS.glob("*.yaml")) if path.stem != "imported"]

STRANGER = """
import sys

class NoGlassrec:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("glassrec", "lightning", "captum"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, NoGlassrec())
import torch

def logits(program, batches):
    run = torch.export.load(program).module()
    return [run(*each) for each in batches]

torch.save([logits(*each) for each in torch.load(sys.argv[1])], sys.argv[2])
assert not [name for name in sys.modules if name.startswith("glassrec")]
"""


Rows = list[tuple[torch.Tensor, ...]]


def _by_a_stranger(folder: Path, programs: dict[Path, Rows]) -> list[list[torch.Tensor]]:
    """The logits of batches of inputs, from a fresh process that has PyTorch alone."""
    given, found = folder / "rows.pt", folder / "logits.pt"
    torch.save([(str(program), rows) for program, rows in programs.items()], given)
    command = [sys.executable, "-I", "-c", STRANGER, str(given), str(found)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return torch.load(found)


def _batches(batch: Batch) -> list[Batch]:
    """One row, two, and thousands, drawn from a few."""
    return [batch.select(torch.arange(rows) * 5 % batch.rows) for rows in (1, 2, 4096)]


def _prune(model: Recommender) -> None:
    """Every other unit of every layer goes."""
    for layer in model.layers.values():
        units = len(layer.units)
        layer.keep(torch.arange(1, units, 2), torch.zeros(units))


@pytest.mark.long
def test_pruned_models_score_the_same_without_glassrec(
    build: Callable[..., Recommender], schema: Schema, batch: Batch, tmp_path: Path
) -> None:
    models = {path.stem: build(path.stem) for path in MODELS}
    batches = _batches(batch)
    for name, model in models.items():
        _prune(model)
        (tmp_path / name).write_bytes(as_pt2(export_program(model, schema)))
    rows = [tuple(each[:3]) for each in batches]
    found = _by_a_stranger(tmp_path, {tmp_path / name: rows for name in models})
    for (name, model), several in zip(models.items(), found, strict=True):
        for logits, each in zip(several, batches, strict=True):
            with torch.no_grad():  # the program is that of the folded copy
                expected = model(each)
            if name == "sasrec":  # which reads histories of one length together, with less padding
                torch.testing.assert_close(logits.detach(), expected)
            else:
                assert torch.equal(logits, expected), name


@pytest.mark.parametrize("name", ["dlrm", "lstm"])  # products of pairs, and a loop over steps
def test_a_program_says_nothing_of_this_machine(
    name: str, build: Callable[..., Recommender], schema: Schema
) -> None:
    content = as_pt2(export_program(build(name), schema))
    assert str(Path(__file__).parents[2]).encode() not in content
    assert content == as_pt2(export_program(build(name), schema))


def test_the_model_stays_as_it_is(build: Callable[..., Recommender], schema: Schema) -> None:
    model = build("lstm").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_program(model, schema)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.long
def test_a_pruned_model_scores_the_same_as_onnx(
    model: Recommender, schema: Schema, batch: Batch
) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    _prune(model)
    content = as_onnx(export_program(model, schema), LOGITS)
    assert not _scatters(content)
    session = runtime.InferenceSession(content)
    assert [each.name for each in session.get_inputs()] == [*INPUTS]
    for each in _batches(batch):
        inputs = {name: getattr(each, name).numpy() for name in INPUTS}
        (logits,) = session.run(["logits"], inputs)
        torch.testing.assert_close(torch.from_numpy(logits), model(each), rtol=1e-5, atol=1e-5)


def _scatters(content: bytes) -> bool:
    """Whether sums are scattered, so that they depend on the number of threads of onnxruntime."""
    onnx = pytest.importorskip("onnx")
    return any(
        each.name == "reduction" and each.s != b"none"
        for node in onnx.load_from_string(content).graph.node
        for each in node.attribute
    )


class Sums(torch.nn.Module):
    """Adds up columns in each direction."""

    def forward(
        self, dense: torch.Tensor, ids: torch.Tensor, history: torch.Tensor
    ) -> torch.Tensor:
        index, cube = torch.tensor([2, 0, 2]), dense.unsqueeze(2) * dense.unsqueeze(1)
        sums = [
            dense.new_ones(dense.shape[0], 4).index_add(1, index, dense, alpha=0.5),
            dense.new_zeros(dense.shape[0], 3, 3).index_add(1, index, cube).flatten(1),
            dense.new_zeros(dense.shape[0], 3, 3).index_add_(2, index, cube).flatten(1),
        ]
        return torch.cat(sums, 1) + ids.sum() + history.sum()


def test_sums_in_onnx_do_not_depend_on_threads() -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    inputs = torch.randn(4, 3), torch.ones(4, 1, dtype=torch.long), torch.ones(4, 1).long()
    rows = {name: {0: torch.export.Dim("rows")} for name in INPUTS}
    content = as_onnx(torch.export.export(Sums(), inputs, dynamic_shapes=rows), LOGITS)
    assert not _scatters(content)
    feed = {name: each.numpy() for name, each in zip(INPUTS, inputs, strict=True)}
    (found,) = runtime.InferenceSession(content).run(None, feed)
    torch.testing.assert_close(torch.from_numpy(found), Sums()(*inputs))


def test_the_description_names_every_column(
    build: Callable[..., Recommender], schema: Schema
) -> None:
    told = description(build("gmf"), schema)
    assert told["inputs"]["dense"]["columns"] == ["I1", "I2", "I3"]
    assert told["inputs"]["ids"]["columns"] == ["C1", "user", "C2", "C2", "C2", "item"]
    fields = {f["name"]: (f["columns"], f["first_id"]) for f in told["inputs"]["ids"]["fields"]}
    assert fields == {"C1": ([0], 0), "user": ([1], 4), "C2": ([2, 3, 4], 11), "item": ([5], 16)}
    assert told["inputs"]["history"] == {"type": "int64", "columns": 4, "field": "item"}
    assert told["outputs"]["logits"] == [
        {"name": "label", "kind": "click"}, {"name": "stars", "kind": "rating"}
    ]  # fmt: skip
    assert told["reads"] == ["user", "item"]


def test_a_run_is_exported_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"
    wide = ["data.rows=600", "trainer=cpu", "trainer.max_epochs=1", "model.embedding=3",
            "model.bottom=[4]", "model.top=[24,6]"]  # fmt: skip
    monkeypatch.setitem(sys.modules, "onnx", None)  # as if it were not installed
    assert main(["export", f"run.dir={directory}"]) == 2  # it works on a run
    assert main(["train", f"run.dir={directory}", *wide]) == 0
    assert main(["export", f"run.dir={directory}", *QUICK, "prune/curves=none"]) == 0
    out = capsys.readouterr().out
    assert "export    model.onnx is not written: the package onnx is missing" in out
    assert not (directory / "model.onnx").exists()
    told = json.loads((directory / "model.json").read_text())
    assert told["units"]["top.0"] < 24
    shapes = [(len(told["inputs"]["dense"]["columns"]), torch.float32),
              (len(told["inputs"]["ids"]["columns"]), torch.int64), (0, torch.int64)]  # fmt: skip
    inputs = tuple(torch.zeros(5, width, dtype=kind) for width, kind in shapes)
    ((logits,),) = _by_a_stranger(tmp_path, {directory / "model.pt2": [inputs]})
    pruned = Weights.load(directory / "pruned.safetensors")
    assert logits.shape == (5, 1)
    assert pruned.tensors["top.0.units"].shape == (told["units"]["top.0"],)
    assert main(["verify", f"run.dir={directory}"]) == 0
    monkeypatch.setattr("glassrec.stages.export.export_program", None)  # nothing is made again
    assert main(["export", f"run.dir={directory}"]) == 0

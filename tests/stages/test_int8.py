"""`prune.quantize=int8`: a copy with int8 tables and towers, measured, exported and verified."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from glassrec.__main__ import main
from small_run import QUICK

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from glassrec.artifacts.pruning import Certificate
from glassrec.prune.certificate_text import of_int8
from glassrec.stages import int8
from glassrec.stages.score_onnx import OnnxBundle


def test_rows_are_whole_numbers_times_their_own_scale() -> None:
    table = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    table *= 10.0 ** np.arange(-5, 0).repeat(100)[:, None]
    table[7] = 0
    whole, scale = int8.int8_rows(table)
    assert whole.dtype == np.int8
    assert scale.dtype == np.float16
    assert scale.shape == (500, 1)
    for row, numbers, step in zip(table, whole, scale[:, 0].astype(float), strict=True):
        assert abs(row - numbers * step).max() <= step / 2 * (1 + 1e-6)
        assert step <= abs(row).max() / 127 * (1 + 2**-10) + 2**-24
    assert not whole[7].any()
    assert not scale[7].any()
    assert abs(whole).max() == 127


class Small(nn.Module):
    """A table of two fields, and a layer on columns of both vectors that are above zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.layer = nn.Embedding(1000, 8), nn.Linear(11, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        columns = torch.tensor([0, 3, 4, 5, 6, 8, 9, 11, 12, 13, 15])
        return self.layer(self.table(ids).flatten(1).index_select(1, columns).relu())


def _exported(model: nn.Module) -> bytes:
    ids = torch.zeros(3, 2, dtype=torch.long)
    rows = {0: torch.export.Dim("rows")}
    program = torch.export.export(model, (ids,), dynamic_shapes={"ids": rows})
    return int8.as_onnx(program, "logits")


def test_logits_are_within_the_steps_of_tables_inputs_and_weights() -> None:
    import onnx
    import onnxruntime

    model = Small()
    content = int8.quantized(_exported(model))
    proto = onnx.load_from_string(content)
    kinds = [node.op_type for node in proto.graph.node]
    assert "MatMulInteger" in kinds
    assert "ArrayFeatureExtractor" in kinds
    parts = {each.name: onnx.numpy_helper.to_array(each) for each in proto.graph.initializer}
    table = parts["table.weight_int8"] * parts["table.weight_scale"].astype(np.float64)
    assert parts["table.weight_int8"].nbytes + parts["table.weight_scale"].nbytes == 1000 * 10
    ids = torch.randint(1000, (64, 2))
    (found,) = onnxruntime.InferenceSession(content).run(None, {"ids": ids.numpy()})
    # By hand, from the integers of the table: the rest is off by half a step of each factor.
    picked = [0, 3, 4, 5, 6, 8, 9, 11, 12, 13, 15]
    rows = table[ids.numpy()].reshape(64, 16)[:, picked].clip(0)
    weight = model.layer.weight.detach().double().numpy()
    exact = rows @ weight.T + model.layer.bias.detach().double().numpy()
    step = (max(rows.max(), 0) - min(rows.min(), 0)) / 255
    steps = abs(weight).max(1) / 127
    most = step / 2 * abs(weight).sum(1) + (abs(rows).sum(1)[:, None] + 11 * step / 2) * steps / 2
    error = abs(found - exact)
    assert (error <= 1.02 * most + 1e-5).all()
    assert error.max() > 1e-4  # integers were multiplied


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated and exported run whose cut has an int8 copy."""
    directory = tmp_path_factory.mktemp("int8") / "run"
    shutil.copytree(trained, directory)
    words = [f"run.dir={directory}", *QUICK, "prune/curves=none", "prune.quantize=int8"]
    assert main(["evaluate", *words, "prune.level=data"]) == 0
    assert main(["export", f"run.dir={directory}"]) == 0
    return directory


def test_the_certificate_is_measured_and_never_exact(run: Path) -> None:
    certificate = Certificate.load(run / "certificate.json")
    found = certificate.int8
    assert found is not None
    assert certificate.exact
    metrics = json.loads((run / "metrics.json").read_text())
    assert found.bytes == (run / "int8.onnx").stat().st_size == metrics["int8/bytes"]
    assert 0 < found.mean_abs_logit_difference < found.max_abs_logit_difference
    assert found.max_abs_logit_difference == metrics["int8/max_abs_logit_difference"]
    agreement = {n: v for n, v in metrics.items() if n.startswith("int8/test/top10")}
    assert {f"int8/test/{name}": share for name, share in found.agreement.items()} == agreement
    assert metrics["int8/test/auroc_change"] == pytest.approx(
        metrics["int8/test/auroc"] - metrics["test/auroc"]
    )
    text = of_int8(certificate)
    assert "not exact" in text
    assert "Equal" not in text
    assert text[:60] in (run / "certificate.md").read_text().replace("\n  ", " ")
    ratios = json.loads((run / "latency.json").read_text())
    assert ratios["int8/latency_ratio_low_1"] <= ratios["int8/latency_ratio_high_1"]


def test_the_bundle_scores_raw_rows_in_int8(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "bundle" / "int8.onnx", tmp_path / "model.onnx")
    golden = pd.read_csv(run / "bundle" / "golden.csv", dtype=str, keep_default_na=False)
    found = OnnxBundle(tmp_path).score(golden)["logit"].to_numpy()
    change = abs(found - golden["expected/logit"].astype(float).to_numpy())
    assert 0 < change.max() < 0.05


def test_verify_measures_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", f"run.dir={run}"]) == 0
    other = tmp_path / "run"
    shutil.copytree(run, other)
    certificate = json.loads((other / "certificate.json").read_text())
    certificate["int8"]["max_abs_logit_difference"] += 1.0
    (other / "certificate.json").write_text(json.dumps(certificate))
    capsys.readouterr()
    assert main(["verify", f"run.dir={other}"]) == 1
    printed = capsys.readouterr()
    assert "int8.max_abs_logit_difference" in printed.out + printed.err


def test_missing_packages_are_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other)
    monkeypatch.setattr(int8, "find_spec", lambda name: None if name == "onnxruntime" else io)
    words = [f"run.dir={other}", "prune.quantize=int8", "prune.level=sample"]
    assert main(["prune", *words]) == 1
    assert "prune.quantize: int8 needs onnxruntime; pip install 'glassrec[onnx]'" in (
        capsys.readouterr().err
    )

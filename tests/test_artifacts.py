"""Each artifact comes back as it went, and the same content gives the same bytes."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from glassrec.artifacts import (
    Artifact,
    Attributions,
    Candidates,
    Certificate,
    Explanation,
    LayerCut,
    Metrics,
    Picture,
    PrunePlan,
    Table,
    Weights,
)

CUT = LayerCut(3, [0, 2], {"data": [1]}, {1: 0.1 + 0.2}, proposed=1, refuted=0, tied=0)
ARTIFACTS: dict[str, Artifact] = {
    "weights.safetensors": Weights({"a": torch.randn(3, 2), "b": torch.arange(2).double()}),
    "candidates.safetensors": Candidates(
        {"val": torch.arange(6).view(3, 2)}, {"val": torch.tensor([0, 0, 1])}
    ),
    "attributions.safetensors": Attributions(
        ("I1", "C1"),
        torch.tensor([[1.0, 2], [-3, 1]]),
        torch.tensor([3.5, -1]),
        torch.tensor([0.5, 1]),
        torch.tensor([4, 7]),
        {"method": "m"},
    ),
    "table.parquet": Table(pd.DataFrame({"layer": ["ä", "b"], "mean": [0.1, 1e-30]})),
    "table.csv": Table(pd.DataFrame({"epoch": [1, 2], "loss": [0.1, 1 / 3]})),
    "plan.json": PrunePlan("data", 2, {"tower.0": CUT}),
    "certificate.json": Certificate("data", True, {"val": 3}, 1e-17, 0.0, 0, 1e-9, "a", "b"),
    "metrics.json": Metrics({"parameters": 10.0, "test/auroc": 0.1 + 0.2}),
    "figure.png": Picture(b"\x89PNG"),
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    artifact = ARTIFACTS[name]
    path, again = tmp_path / name, tmp_path / f"again-{name}"
    artifact.save(path)
    loaded = type(artifact).load(path)
    loaded.save(again)
    assert path.read_bytes() == again.read_bytes()
    assert str(loaded) == str(artifact)


@pytest.mark.parametrize("name", [name for name in ARTIFACTS if name.endswith((".json", "ors"))])
def test_half_a_file_is_said_to_be_damaged(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    ARTIFACTS[name].save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        type(ARTIFACTS[name]).load(path)


def test_delta_and_importance_by_hand() -> None:
    found = ARTIFACTS["attributions.safetensors"]
    assert isinstance(found, Attributions)
    # 1 + 2 − (3.5 − .5) = 0 and −3 + 1 − (−1 − 1) = 0
    assert found.delta.tolist() == [0, 0]
    assert found.importance().to_dict() == {"I1": 2.0, "C1": 1.5}


def test_no_number_is_null_in_json(tmp_path: Path) -> None:
    Metrics({"test/auroc": float("nan")}).save(tmp_path / "m.json")
    assert (tmp_path / "m.json").read_text() == '{\n "test/auroc": null\n}\n'
    assert math.isnan(Metrics.load(tmp_path / "m.json").values["test/auroc"])


def test_an_explanation_keeps_what_is_no_number_apart_from_what_is_not_there(
    tmp_path: Path,
) -> None:
    Explanation(
        "m", "n", "zero", "all", "label", 1, 0.1, 0.2, 0.0, True, None, float("nan")
    ).save(tmp_path / "e.json")  # fmt: skip
    loaded = Explanation.load(tmp_path / "e.json")
    assert math.isnan(loaded.rank_stability)  # of a single row
    assert loaded.agreement is None  # nothing was drawn

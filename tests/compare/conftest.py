"""Run directories that are written in no time; test_pipeline.py compares a true one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from glassrec.artifacts import CertifiedLayer, PrunedNeurons
from small_certificate import certificate

MODELS = {"gmf": {"factors": 8}, "mlp": {"factors": 8, "hidden": [32, 16]}}

IMPORTANCE = {"user": 3.0, "item": 2.0, "price": 1.0}


def config(model: str = "gmf", seed: int = 0, **changed: Any) -> dict[str, Any]:
    """What `config.yaml` holds; a change is named by its dotted key, with `__` for the dots."""
    found: dict[str, Any] = {
        "seed": seed,
        "seeds": None,
        "data": {"_target_": "glassrec.data.planted.Planted", "rows": 2000},
        "model": {"_target_": f"glassrec.models.{model}.{model.upper()}", "_partial_": True,
                  **MODELS[model]},
        "objective": {"_target_": "glassrec.training.objective.Objective", "weights": {}},
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.001, "betas": [0.9, 0.999]},
        "trainer": {"_target_": "glassrec.training.trainer.Trainer", "max_epochs": 5,
                    "accelerator": "cpu", "monitor": None},
        "tracker": {"_target_": "glassrec.tracking.NoTracker"},
    }  # fmt: skip
    for name, value in changed.items():
        *parents, last = name.split("__")
        node = found
        for parent in parents:
            node = node[parent]
        node[last] = value
    return found


def leave(
    directory: Path,
    model: str = "gmf",
    seed: int = 0,
    *,
    metrics: Mapping[str, float | None] | None = None,
    importance: Mapping[str, float] = IMPORTANCE,
    q_values: Mapping[str, float] | None = None,
    status: Mapping[str, str] | None = None,
    gone: Mapping[str, int] | None = None,
    files: Mapping[str, str] | None = None,
    **changed: Any,
) -> Path:
    """Write what a run leaves, of 10 units of which some are `gone` at each level."""
    directory.mkdir(parents=True)
    (directory / ".lock").touch()
    _yaml(directory / "config.yaml", config(model, seed, **changed))
    _json(directory / "status.json", status or {"state": "finished", "stage": "evaluate"})
    _json(directory / "provenance.json", {"data": dict(files or {})})
    if metrics is None:
        metrics = {"val/auroc": 0.7, "test/auroc": 0.7, "test/accuracy": 0.6}
    if metrics:
        _json(
            directory / "metrics.json", {"parameters": 100.0, "pruned/parameters": 90.0, **metrics}
        )
        _json(directory / "latency.json", {"latency_p50_4096": 2.0, "pruned/latency_p50_4096": 1.0})
        columns = ["epoch", "train/loss", *(name for name in metrics if name.startswith("val/"))]
        pd.DataFrame([[1.0] * len(columns)], columns=columns).to_csv(
            directory / "history.csv", index=False
        )
    levels = {"data": 2} if gone is None else gone
    removed = [PrunedNeurons(level, 0.0, n, "a") for level, n in levels.items()]
    certificate(exact="budget" not in levels, layers={"top": CertifiedLayer(10, 10, removed)}).save(
        directory / "certificate.json"
    )
    frame = pd.DataFrame({"player": [*importance], "mean_abs": [*importance.values()]})
    if q_values is not None:
        frame["q_value"] = [q_values[player] for player in importance]
    frame.assign(extra=0.0).to_parquet(directory / "importance.parquet", index=False)
    return directory


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def _yaml(path: Path, value: Any) -> None:
    path.write_text(yaml.safe_dump(value, sort_keys=False))


@pytest.fixture(name="leave")
def _leave(tmp_path: Path) -> Callable[..., Path]:
    """Leaves a run in a folder of `tmp_path / "runs"`, by its name."""
    return lambda name, *args, **settings: leave(tmp_path / "runs" / name, *args, **settings)

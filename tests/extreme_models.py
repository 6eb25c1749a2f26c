"""Runs of models that are constant, dead, one neuron wide or barely trained.

`python tests/extreme_models.py [MODEL ...]` runs every model of `configs/model`, or those that are
named, in every way, with pictures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
import yaml

from glassrec.config import compose
from glassrec.models.base import Recommender
from glassrec.pipeline import Pipeline
from glassrec.run import Run

MODELS = Path(__file__).parents[1] / "configs" / "model"

WORDS = [
    "trainer=cpu", "trainer.batch_size=128", "explain.select.rows=40", "explain/compare=none",
    "explain.pair_rows=5", "explain.faithfulness.rows=10", "explain.faithfulness.steps=2",
    "explain.faithfulness.subsets=5", "explain.faithfulness.points=1",
    "explain.faithfulness.models=1", "prune.curves.shares=[0.5]", "prune.curves.draws=1",
]  # fmt: skip

DATA = {
    "lstm": ["data=planted_sequence", "data.users=40"],
    "": ["data.rows=500", "data.users=12", "data.items=8"],
}


def as_made(model: Recommender) -> None:
    """The weights that training would start from."""


@torch.no_grad()
def zero(model: Recommender) -> None:
    """All weights are zero, so the logit is constant."""
    for parameter in model.parameters():
        parameter.zero_()


@torch.no_grad()
def dead(model: Recommender) -> None:
    """Biases so low that no ReLU ever gives anything, so that neurons are constant."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.fill_(-100)


@torch.no_grad()
def half_dead(model: Recommender) -> None:
    """Every second number of each bias is as low."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter[::2] = -100


WAYS = (as_made, zero, dead, half_dead)


def words_of(model: str, width: int) -> list[str]:
    """The command's settings for a model whose hidden layers all have one width."""
    settings = yaml.safe_load((MODELS / f"{model}.yaml").read_text())
    found = [f"model={model}", *DATA.get(model, DATA[""]), *WORDS]
    for name, value in settings.items():
        if isinstance(value, list):
            found.append(f"model.{name}=[{width}]")
        elif name in ("factors", "hidden") and isinstance(value, int):
            found.append(f"model.{name}={width}")
        elif name == "embedding":
            found.append("model.embedding=4")
    return found


def executed(
    directory: Path, words: list[str], plant: Callable[[Recommender], None]
) -> dict[str, float | None]:
    """The metrics of a run whose model starts from planted weights."""
    checked = compose.prepare("run", [*words, f"run.dir={directory}"])
    parts: dict[str, Any] = compose.build(checked)
    make = parts["model"]

    def planted(schema: object) -> Recommender:
        model: Recommender = make(schema)
        plant(model)
        return model

    run = Run(directory, config=compose.plain(checked))
    Pipeline(run=run, **parts | {"model": planted}).execute("run")
    run.close()
    found: dict[str, float | None] = json.loads((directory / "metrics.json").read_text())
    return found


def is_complete(metrics: dict[str, float | None]) -> bool:
    """Whether there is quality of both models on both splits."""
    of = [f"{pruned}{split}/" for pruned in ("", "pruned/") for split in ("val", "test")]
    return all(any(name.startswith(prefix) for name in metrics) for prefix in of)


def main(models: list[str]) -> int:
    """Run all, tell how each ends, and return how many do not end with metrics."""
    failed = 0
    for model in models or sorted({path.stem for path in MODELS.glob("*.yaml")} - {"imported"}):
        for plant in WAYS:
            for width, epochs, level in ((1, 0, "data"), (1, 1, "budget"), (4, 1, "sample")):
                start = perf_counter()
                words = [*words_of(model, width), f"trainer.max_epochs={epochs}"]
                with TemporaryDirectory() as folder:
                    try:
                        metrics = executed(
                            Path(folder, "run"), [*words, f"prune.level={level}"], plant
                        )
                        ended = "ok" if is_complete(metrics) else "metrics are missing"
                    except Exception as error:
                        ended = f"{type(error).__name__}: {error}"
                failed += ended != "ok"
                way = f"{model} {plant.__name__} width={width} epochs={epochs} {level}"
                print(f"RESULT {way}: {ended} ({perf_counter() - start:.1f} s)", flush=True)
    print(f"RESULT {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))

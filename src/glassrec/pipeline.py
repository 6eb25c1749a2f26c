"""The whole story: train -> explain -> prune -> evaluate, in one directory.

Each stage asks the run for its artifacts, and the run makes only those that are missing or were
made from something else. So a stage can be asked for alone, again, or after a crash, and a change
of one setting makes again what depends on it and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Lt, MinLen
from pydantic import DirectoryPath, FilePath
from torch.nn import Parameter
from torch.optim import Optimizer

from glassrec.data.dataset import Source
from glassrec.data.schema import Schema
from glassrec.ending import UsageError
from glassrec.explain.explainer import Explain
from glassrec.failures import memory_needed
from glassrec.models.base import Recommender
from glassrec.prune.pruner import Pruner
from glassrec.run import Run, flat, is_path, trusted_sha256
from glassrec.stages.evaluate import Evaluating
from glassrec.stages.explain import Explaining
from glassrec.stages.export import Exporting
from glassrec.stages.prune import Pruning
from glassrec.stages.stage import Stage
from glassrec.stages.start import start_file
from glassrec.stages.train import OnEpoch, Training
from glassrec.stages.verify import Verifying
from glassrec.tracking import Log, Tracker
from glassrec.training.objective import Objective
from glassrec.training.trainer import Trainer

STAGES = ("train", "explain", "prune", "evaluate")

_MODEL = "the size of the model (model.embedding)"
_MEMORY = {
    "train": f"trainer.batch_size or {_MODEL}",
    "explain": f"explain.memory, explain.select.rows or {_MODEL}",
    "prune": _MODEL,
    "evaluate": _MODEL,
    "export": _MODEL,
}
"""The settings that need less memory in a stage, when they are lowered."""


@dataclass(frozen=True)
class Pipeline:
    """One experiment. Its fields are the root of the configuration, in the order of `run.yaml`.

    `seeds` is for the command line, which makes a pipeline for each: here it is None. `start` is a
    run directory, or a file of weights: what the model starts from, narrow where it was pruned.
    """

    run: Run
    seed: Annotated[int, Ge(0), Lt(2**63)]
    seeds: Annotated[Sequence[Annotated[int, Ge(0), Lt(2**63)]], MinLen(1)] | None
    start: DirectoryPath | FilePath | None
    data: Source
    model: Callable[[Schema], Recommender]
    objective: Objective
    optimizer: Callable[[Iterable[Parameter]], Optimizer]
    table_optimizer: Callable[[Iterable[Parameter]], Optimizer] | None
    trainer: Trainer
    explain: Explain
    prune: Pruner
    tracker: Tracker

    def __post_init__(self) -> None:
        if self.seeds is not None:
            raise ValueError(f"seeds: {self.seeds} is not allowed; make a pipeline for each")

    def execute(self, stage: str, watch: OnEpoch | None = None) -> None:
        """Make all that is missing up to `stage`, everything for `run`, and say where it lies.

        Args:
            stage: one of `STAGES`, `run`, or `export`, which takes the place of `evaluate`.
            watch: gets each row of the training history, and may raise `StoppedEarly`.

        Raises:
            ValueError: the data, the settings or a saved file do not allow it.
            StoppedEarly: `watch` did.
        """
        with self.tracker.open(self.run.dir, self.run.shown, stage) as log:
            for each in self._stages(log, stage, watch):
                with self.run.working_on(each.name), memory_needed(each.name, _MEMORY[each.name]):
                    each.tell()
        self.run.save_config()
        if not self.run.made:
            print("nothing to make: all of it is there and up to date")
        print(f"results   {self.run.dir}")

    def verify(self) -> list[str]:
        """What of the run, which is a `Sealed` one, its files do not give when computed anew."""
        evaluating = Evaluating(Pruning(Explaining(Training(self, Log(), {}))))
        return Verifying(evaluating, self._given).tell()

    def _stages(self, log: Log, last: str, watch: OnEpoch | None) -> list[Stage]:
        """The stages up to the last one; each asks those before it for what they made."""
        trained = Training(self, log, self._given(), watch)
        explained = Explaining(trained)
        pruned = Pruning(explained)
        if last == "export":
            return [trained, explained, pruned, Exporting(pruned)]
        stages: list[Stage] = [trained, explained, pruned, Evaluating(pruned)]
        return stages if last == "run" else stages[: STAGES.index(last) + 1]

    def _given(self) -> dict[str, Any]:
        """The hashes of all that comes from outside: data files, and what the model starts from.

        A path among the model's settings is a file, or the directory of a trained run.
        """
        parts = {}
        for name, value in flat(self.run.config["model"]).items():
            if is_path(value):
                file = Path(value) if Path(value).is_file() else Path(value, "weights.safetensors")
                if not file.is_file():
                    raise ValueError(f"model.{name}: {value} holds no {file.name}; train it first")
                parts[name] = trusted_sha256(file)
        given: dict[str, Any] = {"data": self.data.fingerprint(), "model": parts}
        if self.start is not None:
            given["start"] = {"weights": self._start_hash(self.start)}
        return given

    def _start_hash(self, start: Path) -> str:
        file = start_file(start)
        if file.resolve().parent == self.run.dir.resolve():
            raise UsageError(f"start: {start} is this run; name another run.dir")
        return trusted_sha256(file)

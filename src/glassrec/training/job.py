"""What is to be trained, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from glassrec.data.dataset import Dataset
from glassrec.metrics.metadata import best_index
from glassrec.models.base import Recommender
from glassrec.run import RUNTIME_KEYS
from glassrec.training.checkpoint import read
from glassrec.training.objective import Objective
from glassrec.training.settings import Settings

KEY = "glassrec"


@dataclass
class Progress:
    """The epochs so far, and the weights after the best of them."""

    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """The number of epochs; epoch 0, the start, is none."""
        return int(self.history[-1]["epoch"]) if self.history else 0


@dataclass(frozen=True)
class Job:
    """All that training needs; it travels to the processes of other devices by pickle."""

    model: Recommender
    dataset: Dataset
    optimizer: Callable[[Iterable[Parameter]], Optimizer]
    table_optimizer: Callable[[Iterable[Parameter]], Optimizer] | None
    objective: Objective
    validate: Callable[[Recommender, Dataset], Mapping[str, float]]
    settings: Settings
    monitor: str
    seed: int
    path: Path
    origin: str = ""
    quiet: bool = False
    start: dict[str, float] | None = None
    """The row of epoch 0, if the weights of the model are trained already."""

    def best_epoch(self, progress: Progress) -> int:
        """The index in the history of the best epoch, the first among equals."""
        return best_index(self.monitor, (row[self.monitor] for row in progress.history))

    def over(self, progress: Progress) -> bool:
        """Whether no epoch is left, or patience is used up."""
        epochs = progress.epochs
        if not epochs or epochs >= self.settings.max_epochs:
            return epochs > 0
        patience = self.settings.patience
        since = len(progress.history) - 1 - self.best_epoch(progress)
        return patience is not None and since >= patience

    def optimizers(self) -> list[Optimizer]:
        """The one of all parameters; or that of all but the joint table, and the table's."""
        if self.table_optimizer is None:
            return [self.optimizer(self.model.parameters())]
        table = self.model.table.weight
        others = [each for each in self.model.parameters() if each is not table]
        assert isinstance(table, Parameter)
        return [*([self.optimizer(others)] if others else []), self.table_optimizer([table])]

    def identity(self) -> dict[str, str]:
        """What must agree before a checkpoint may be continued."""
        return {
            "model": f"{type(self.model).__name__} of {self.model.parameter_count:,} parameters",
            "data": f"{self.dataset.train.batch.rows:,} training rows",
            "optimizer": _settings(self.optimizer),
            "table optimizer": _settings(self.table_optimizer),
            "objective": str(self.objective),
            "trainer": str(
                {k: v for k, v in asdict(self.settings).items() if k not in RUNTIME_KEYS}
            ),
            "seed": str(self.seed),
            "origin": self.origin or "unknown",
        }

    def pack(self, progress: Progress) -> dict[str, Any]:
        """The part of a checkpoint that is ours."""
        return {"job": self.identity(), "history": progress.history, "best": progress.best}

    def unpack(self, checkpoint: Mapping[str, Any]) -> Progress:
        """The progress that `checkpoint` holds; ValueError if it is another job's."""
        mine = checkpoint.get(KEY)
        if not isinstance(mine, dict):
            raise ValueError(f"{self.path} is not a training checkpoint; delete it to train afresh")
        for name, here in self.identity().items():
            if mine["job"].get(name) != here:
                raise ValueError(
                    f"{self.path} is the checkpoint of another training; its {name} is "
                    f"{mine['job'].get(name)}, not {here}; delete it to train afresh"
                )
        return Progress(mine["history"], mine["best"])

    def progress(self) -> Progress:
        """How far the checkpoint file says that this job is; at its beginning if there is none."""
        return self.unpack(read(self.path, mapped=True)) if self.path.exists() else self.beginning()

    def beginning(self) -> Progress:
        """No epoch yet, or epoch 0 with the weights that the model has."""
        if self.start is None:
            return Progress()
        weights = self.model.state_dict().items()
        return Progress([self.start], {name: tensor.cpu().clone() for name, tensor in weights})


def _settings(optimizer: Callable[[Iterable[Parameter]], Optimizer] | None) -> str:
    """An optimiser with its settings, in words; made for one number, as its state may be large."""
    made = None if optimizer is None else optimizer([Parameter(torch.zeros(1, 1))])
    return " ".join(repr(made).split())

"""A training and its progress, and the checkpoint file that holds both: whole or not there."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from glassrec.artifacts.file_list import FINISHED
from glassrec.metrics.metadata import best_index
from glassrec.metrics.user_metrics import mode
from glassrec.models.embedding import map_table
from glassrec.process_exit import defer_signals
from glassrec.processes import from_first
from glassrec.run import replacing
from glassrec.training.datamodule import RecommenderDataModule
from glassrec.training.module import RecommenderModule
from glassrec.training.settings import Settings
from glassrec.training.sharding import FOLDER, read_rows

KEY = "glassrec"


@dataclass
class Progress:
    """The epochs so far, and the weights after the best of them."""

    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    stopped: bool = False
    """whether a callback ended the training early"""

    @property
    def epochs(self) -> int:
        """The number of epochs; epoch 0, the start, is none."""
        return int(self.history[-1]["epoch"]) if self.history else 0


@dataclass(frozen=True)
class Job:
    """All that training needs; it travels to the processes of other devices by pickle."""

    module: RecommenderModule
    data: RecommenderDataModule
    settings: Settings
    monitor: str
    path: Path
    callbacks: Sequence[Any] = ()
    loggers: Sequence[Any] = ()
    origin: str = ""
    quiet: bool = False
    start: dict[str, float] | None = None
    """The row of epoch 0, if the weights of the model are trained already."""

    def best_epoch(self, progress: Progress) -> int:
        """The index in the history of the best validated epoch, the first among equals."""
        rows = [i for i, row in enumerate(progress.history) if self.monitor in row]
        if not rows:
            return len(progress.history) - 1
        values = [progress.history[i][self.monitor] for i in rows]
        metric = self.module.metrics.get(self.monitor.rpartition("/")[2])
        return rows[best_index(self.monitor, values, mode(metric))]

    def is_complete(self, progress: Progress) -> bool:
        """Whether no epoch is left, patience is used up, or a callback ended the training."""
        epochs = progress.epochs
        if not epochs or epochs >= self.settings.max_epochs or progress.stopped:
            return epochs > 0
        patience = self.settings.patience
        since = len(progress.history) - 1 - self.best_epoch(progress)
        return patience is not None and since >= patience

    def identity(self) -> dict[str, str]:
        """The facts that must agree before a checkpoint may be continued."""
        module, model = self.module, self.module.model
        return {
            "model": f"{type(model).__name__} of {model.parameter_count:,} parameters",
            "data": f"{self.data.dataset.train.batch.rows:,} training rows",
            "optimizer": _settings(module.optimizer),
            "table optimizer": _settings(module.table_optimizer),
            "objective": str(module.objective),
            "trainer": self.settings.identity(),
            "seed": str(self.data.seed),
            "origin": self.origin or "unknown",
            "joint table": "in shards" if self.settings.shard_table else "whole",
        }

    def pack(self, progress: Progress) -> dict[str, Any]:
        """The part of a checkpoint that is Glassrec's."""
        return {
            "job": self.identity(), "history": progress.history, "best": progress.best,
            "stopped": progress.stopped,
        }  # fmt: skip

    def unpack(self, checkpoint: Mapping[str, Any]) -> Progress:
        """The progress that `checkpoint` holds; ValueError if it is another job's."""
        mine = checkpoint.get(KEY)
        if not isinstance(mine, dict) or "stopped" not in mine:
            raise ValueError(f"{self.path} is not a training checkpoint; delete it to train afresh")
        for name, here in self.identity().items():
            there = mine["job"].get(name, "whole")  # as are those of older checkpoints
            if there != here:
                raise ValueError(
                    f"{self.path} is the checkpoint of another training; its {name} is "
                    f"{there}, not {here}; delete it to train afresh"
                )
        found = Progress(mine["history"], mine["best"], mine["stopped"])
        if found.epochs > self.settings.max_epochs:
            raise ValueError(
                f"{self.path} has {found.epochs} epochs, more than trainer.max_epochs="
                f"{self.settings.max_epochs}; ask for as many, or delete it to train afresh"
            )
        return found

    def progress(self) -> Progress:
        """How far the checkpoint says that this job is; at its beginning if there is none."""
        if not from_first(self._has_checkpoint):
            return self.beginning()
        return self.unpack(read_checkpoint(self.path, mapped=True))

    def table_of(self, epoch: int) -> Path:
        """The folder of a sharded table after an epoch."""
        return self.path.with_name(FOLDER) / str(epoch)

    def forget_tables(self, progress: Progress) -> None:
        """Delete the sharded tables of all epochs but the best and the last."""
        kept = {self.best_table(progress), self.table_of(progress.epochs)}
        for folder in self.path.with_name(FOLDER).glob("*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def best_table(self, progress: Progress) -> Path:
        """The folder of the sharded table after the best epoch."""
        return self.table_of(int(progress.history[self.best_epoch(progress)]["epoch"]))

    def sharded_table(self, progress: Progress) -> Tensor:
        """The whole table after the best epoch, in a mapped file."""
        table = self.module.model.table
        weight = map_table(self.path.parent, table.num_embeddings, table.embedding_dim)
        read_rows(self.best_table(progress), "weight", weight)
        table.unshard(weight)
        return weight

    def _has_checkpoint(self) -> bool:
        """Whether there is one; that of a finished training is taken if it has fewer epochs."""
        finished = self.path.with_name(FINISHED.name)
        if finished.exists() and not self.path.exists():
            checkpoint = read_checkpoint(finished, mapped=True)
            with suppress(ValueError):  # it is of other data or settings, and so of no use
                self.unpack(checkpoint)
                finished.replace(self.path)
        return self.path.exists()

    def beginning(self) -> Progress:
        """No epoch yet, or epoch 0 with the weights that the model has."""
        if self.start is None:
            return Progress()
        weights = self.module.model.state_dict().items()
        return Progress([self.start], {name: tensor.cpu().clone() for name, tensor in weights})


def _settings(optimizer: Callable[[Iterable[Parameter]], Optimizer] | None) -> str:
    """An optimiser with its settings, in words; made for one number, as its state may be large."""
    made = None if optimizer is None else optimizer([Parameter(torch.zeros(1, 1))])
    return " ".join(repr(made).split())


class AtomicCheckpointIO(CheckpointIO):
    """Saves a checkpoint so that a kill at any moment leaves the old file or the new one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write beside `path`, flush to the disk, rename; a signal waits: PyTorch would hide it."""
        with (
            defer_signals(),
            replacing(Path(path)) as part,
            part.open("wb") as file,
        ):  # which says why it fails
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """What `save_checkpoint` wrote, on the CPU; Lightning moves it where it belongs."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file."""
        Path(path).unlink()


def read_checkpoint(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU, after its checksums are verified.

    If `mapped`, tensors stay in the file until they are read, so that they take no memory.

    Raises:
        ValueError: the file is cut off, altered, or not a checkpoint at all.
    """
    try:
        # torch.load does not look at the checksums that torch.save writes.
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()
        if altered:
            raise zipfile.BadZipFile(f"wrong checksum of {altered}")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a damaged archive fails in a dozen ways, OSError among them
        raise ValueError(
            f"{path} is damaged or not a checkpoint; delete it to train afresh ({error})"
        ) from error

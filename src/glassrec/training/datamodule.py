"""Data for Lightning: a source or a dataset, served in the batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from glassrec.data.batch import Batch, rebatch, track_batches
from glassrec.data.dataset import Dataset, Source, Split
from glassrec.data.schema import Schema
from glassrec.training.objective import Objective

MAX_EVALUATION_ROWS = 16_384
"""Rows of a batch that is only evaluated."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class RecommenderDataModule(LightningDataModule):
    """Serves a dataset to a `lightning.Trainer`, each process its share.

    Training rows are shuffled, and negatives drawn, anew in every epoch; both depend on the seed
    and the number of the epoch alone, so that a resumed training sees the same rows.

    Args:
        source: a dataset, or a source that is loaded when it is needed first.
        batch_size: rows of a training step on each device.
        seed: fixes random splits, negatives, order and dropout.
        verbose: whether long epochs report how far they are.

    Examples:
        >>> from glassrec.data.planted import Planted
        >>> RecommenderDataModule(Planted(rows=100), batch_size=16).schema.targets[0].kind
        'click'
    """

    # A process without a row of the validation split has nothing to evaluate.
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        source: Source | Dataset,
        *,
        batch_size: int = 1024,
        seed: int = 0,
        verbose: bool = False,
    ) -> None:
        super().__init__()
        self.source, self.batch_size, self.seed, self.verbose = source, batch_size, seed, verbose

    @property
    def dataset(self) -> Dataset:
        """All rows, in memory."""
        if isinstance(self.source, Source):
            self.source = self.source.load(self.seed)
        return self.source

    @property
    def schema(self) -> Schema:
        """The columns of the batches."""
        return self.dataset.schema

    def train_dataloader(self) -> TrainingBatches:
        """The training rows of the current epoch."""
        return TrainingBatches(self)

    def val_dataloader(self) -> EvaluationBatches:
        """The rows of the validation split, in order."""
        return self._evaluation_batches(self.dataset.validation)

    def test_dataloader(self) -> EvaluationBatches:
        """The rows of the test split, in order."""
        return self._evaluation_batches(self.dataset.test)

    predict_dataloader = test_dataloader

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch; nothing is to do where the epoch is on the device already."""
        if isinstance(batch, Batch):
            return batch.to(device)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _evaluation_batches(self, split: Split) -> EvaluationBatches:
        trainer = self.trainer
        place = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        return EvaluationBatches(split.batch, *place, verbose=self.verbose and place[0] == 0)


class TrainingBatches:
    """The batches of an epoch on one process; each iteration draws the rows of the current one.

    A last batch with too few rows for batch normalisation joins the one before it. With
    `overfit_batches` every epoch has the rows of the first.

    Raises:
        ValueError: there are fewer rows than devices, or too few for batch normalisation.
    """

    def __init__(self, data: RecommenderDataModule) -> None:
        self.data, self.batch_size = data, data.batch_size
        trainer = _trainer(data)
        self.rank, self.processes = trainer.global_rank, trainer.world_size
        objective: Objective = getattr(trainer.lightning_module, "objective", Objective())
        dataset = self.dataset = objective.training_rows(data.dataset)
        self.rows = dataset.rows_per_epoch // self.processes
        if dataset.in_blocks:  # a positive and its negatives are of one process
            positives = dataset.train.batch.rows // self.processes
            self.rows = positives * dataset.rows_per_positive
        if not self.rows:
            raise ValueError("no rows to train on: fewer training rows than devices")
        model = trainer.lightning_module
        least = 2 if any(isinstance(each, BATCH_NORMS) for each in model.modules()) else 1
        if min(self.batch_size, self.rows) < least:
            raise ValueError(
                f"{type(getattr(model, 'model', model)).__name__} normalises over the rows of a "
                f"batch, which needs {least} of them, and a device has {self.rows} rows in batches "
                f"of {self.batch_size}; raise trainer.batch_size, take fewer devices or more rows"
            )
        full, rest = divmod(self.rows, self.batch_size)
        self.count = max(full + (rest >= least), 1)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        data, trainer = self.data, _trainer(self.data)
        epoch = 0 if trainer.overfit_batches else trainer.current_epoch
        # One step of all processes sees the rows of one batch that is larger.
        parts = self.dataset.epoch_parts(data.seed, epoch, self.rank, self.processes)
        device = trainer.strategy.root_device
        parts = (rows.to(device) if _fits(rows, device) else rows for rows in parts)
        last = self.rows - (self.count - 1) * self.batch_size
        batches = rebatch(parts, [*repeat(self.batch_size, self.count - 1), last])
        yield from track_batches(batches, self.rows) if data.verbose and self.rank == 0 else batches


class EvaluationBatches:
    """Every so many rows of a split, in turn for each process."""

    def __init__(
        self, rows: Batch, rank: int = 0, processes: int = 1, *, verbose: bool = False
    ) -> None:
        self.rows, self.rank, self.processes, self.verbose = rows, rank, processes, verbose
        own = -(-rows.rows // processes)
        self.count = -(-own // MAX_EVALUATION_ROWS)
        # All processes get as many batches, as they may look ids up together.
        self.size = MAX_EVALUATION_ROWS if processes == 1 else max(1, -(-own // max(self.count, 1)))

    def _starts(self, rank: int) -> range:
        step = self.processes * self.size
        return range(rank * self.size, rank * self.size + self.count * step, step)

    def __len__(self) -> int:
        return len(self._starts(self.rank))

    def __iter__(self) -> Iterator[Batch]:
        parts = (self.rows.slice(at, at + self.size) for at in self._starts(self.rank))
        return track_batches(parts, len(self.index(self.rank))) if self.verbose else parts

    def index(self, rank: int) -> Tensor:
        """The rows (n,) of the split that a process evaluates, in its order."""
        every = torch.arange(self.rows.rows)
        return torch.cat([every[:0], *(every[at : at + self.size] for at in self._starts(rank))])


def _trainer(data: RecommenderDataModule) -> Any:
    if data.trainer is None:
        raise ValueError("RecommenderDataModule: training batches are those of a Trainer; fit one")
    return data.trainer


def _fits(rows: Batch, device: torch.device) -> bool:
    """Whether the rows take less than half of the memory that is free on `device`."""
    if device.type != "cuda":
        return device.type == "cpu"
    return sum(column.nbytes for column in rows) < torch.cuda.mem_get_info(device)[0] / 2

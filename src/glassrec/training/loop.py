"""The training loop, on Lightning: what happens in a step and at the end of an epoch.

Nothing in a step waits for the device: losses stay there and are read when an epoch is over.
"""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
import torch
from lightning import pytorch as lightning
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch import Tensor, nn
from torch.optim import Optimizer

from glassrec.data.batch import Batch, track_batches
from glassrec.metrics.metadata import format_metric
from glassrec.process_exit import Terminated
from glassrec.run import Lock
from glassrec.training.checkpoint import AtomicFile
from glassrec.training.devices import train_on_devices
from glassrec.training.job import KEY, Job, Progress
from glassrec.training.sparsity import Shrinkage

OnEpoch = Callable[[Mapping[str, float]], None]

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

LOOK_EVERY = 1000
"""Steps between two looks for a loss that is not finite; each look waits for the device."""

# Here, not in `train`: the processes of other devices import this module and shall be quiet, too.
for _name in ("lightning.pytorch", "lightning.fabric"):  # tips and advertisements
    logging.getLogger(_name).setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*LeafSpec", module="lightning")  # of use to its authors


def train(job: Job, on_epoch: OnEpoch, lock: Lock | None = None) -> Progress:
    """Do what is left of `job`; `on_epoch` gets each row of the history once, in order.

    The processes of several devices share the lock of the run.
    """
    before = job.progress()
    for row in before.history:
        on_epoch(row)
    if job.over(before):
        return before
    done = len(before.history)
    if done and not before.epochs and not job.quiet:
        value = before.history[0][job.monitor]
        print(f"epoch 0/{job.settings.max_epochs} (start)  {job.monitor} {value:.4f}", flush=True)
    del before  # its weights lie in the old file, which would stay on the disk
    if job.settings.devices == 1:
        return _fit(job, on_epoch)
    try:
        train_on_devices(_fit, job, lock)
    finally:  # the epochs before one of the processes failed count, too
        after = job.progress()
        for row in after.history[done:]:
            on_epoch(row)
    return after


def _fit(job: Job, on_epoch: OnEpoch | None = None) -> Progress:
    """Train in this process."""
    loop = Loop(job, on_epoch)
    with _plain_errors():
        _lightning(job).fit(loop, ckpt_path=job.path if job.path.exists() else None)
    return loop.progress


class Loop(lightning.LightningModule):
    """One step, one epoch. `on_epoch` is None where it could not cross to another process."""

    def __init__(self, job: Job, on_epoch: OnEpoch | None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = job.model
        self.job = job
        self.loss = job.objective.of(job.dataset)
        self.on_epoch = on_epoch
        self.progress = job.beginning()
        self.shrinkage: Shrinkage
        self.occurrences: Tensor
        self.steps: Steps
        self.losses: Tensor
        self.started = 0.0

    def configure_optimizers(self) -> list[Optimizer]:
        """The optimisers of the configuration."""
        return self.job.optimizers()

    def on_train_start(self) -> None:
        """Find what is shrunk, now that weights and optimisers are restored and where they stay."""
        if self.trainer.world_size > 1:  # Lightning's handler waits for the other processes
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.shrinkage = Shrinkage(self.model, self.job.objective, self.trainer.optimizers)
        history = self.model.schema.history_length > 0
        self.occurrences = self.job.dataset.occurrences(history=history)

    def train_dataloader(self) -> Steps:
        """The rows of the coming epoch, or this process's share, on the device if they fit."""
        self.started = perf_counter()
        rows = self.job.dataset.epoch(self.job.seed, self.current_epoch)
        if self.trainer.world_size > 1:
            rows = _share(rows, self.trainer.global_rank, self.trainer.world_size)
        if not rows.rows:
            raise ValueError("no rows to train on: fewer training rows than devices")
        rows = rows.to(self.device) if _fits(rows, self.device) else rows
        tells = self.trainer.is_global_zero and not self.job.quiet
        least = least_rows(self.model)
        size = self.job.settings.batch_size
        if min(size, rows.rows) < least:
            raise ValueError(
                f"{type(self.model).__name__} normalises over the rows of a batch, which needs "
                f"{least} of them, and a device has {rows.rows} rows in batches of {size}; raise "
                "trainer.batch_size, take fewer devices or more rows"
            )
        self.steps = Steps(rows, size, tells, least)
        return self.steps

    def on_train_epoch_start(self) -> None:
        """Seed dropout by seed, epoch and process alone, so that a resumed run agrees."""
        entropy = (self.job.seed, self.current_epoch, self.trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        self.losses = torch.zeros(int(self.trainer.num_training_batches), device=self.device)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Nothing to do where the epoch is on the device already."""
        return batch.to(device)

    def training_step(self, batch: Batch, step: int) -> None:
        """Descend the loss of a batch.

        Lightning's automatic optimisation calls a dozen hooks a step that nobody uses here; without
        them an epoch is 7 to 10 % faster at batches up to 4,096 (benchmarks/training.py).
        """
        loss = self.loss(self.model, batch)
        self.losses[step] = loss.detach()
        optimizers = self._optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        self.shrinkage.step()

    def on_train_batch_end(self, outputs: Any, batch: Batch, step: int) -> None:
        """Look at the losses now and then, so that a lost run does not go on for hours."""
        if (step + 1) % LOOK_EVERY == 0:
            self._finite_losses(step + 1)

    def on_train_epoch_end(self) -> None:
        """Judge, remember the best, save, and only then report."""
        self.model.table.average_unseen(self.occurrences)
        row = {"epoch": self.current_epoch + 1, "train/loss": self._mean_loss(), **self._validate()}
        self.progress.history.append(row)
        for optimizer in self._optimizers():  # gradients are as large as the weights; make room
            optimizer.zero_grad()
        if self.job.best_epoch(self.progress) == len(self.progress.history) - 1:
            self._remember_weights()
        self.trainer.should_stop = self.job.over(self.progress)
        self.trainer.save_checkpoint(self.job.path)
        if self.trainer.is_global_zero:
            self._tell(row)

    def _optimizers(self) -> list[LightningOptimizer]:
        found = self.optimizers()
        return found if isinstance(found, list) else [found]

    def _remember_weights(self) -> None:
        """Write them over those of the best epoch before, so that there is one copy at any time."""
        best, weights = self.progress.best, self.model.state_dict()
        for name, tensor in weights.items():
            if name not in best:
                best[name] = torch.empty_like(tensor, device="cpu")
            best[name].copy_(tensor)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add history and best weights."""
        checkpoint[KEY] = self.job.pack(self.progress)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take history and best weights over."""
        self.progress = self.job.unpack(checkpoint)

    def _finite_losses(self, steps: int) -> Tensor:
        """The losses of the epoch's first steps, the mean over processes; (steps,) float64."""
        mean = self.trainer.strategy.reduce(self.losses[:steps].clone(), reduce_op="mean")
        losses = mean.cpu().double()
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            step = int(bad[0])
            raise ValueError(
                f"the training loss is {losses[step]} at epoch {self.current_epoch + 1}, step "
                f"{step + 1} of {len(self.losses)}; lower the learning rate, or look for extreme "
                "values in the data"
            )
        return losses

    def _mean_loss(self) -> float:
        """Over the rows of the epoch; the last batch has another size than the others."""
        losses = self._finite_losses(len(self.losses))
        sizes = torch.full_like(losses, self.steps.size)
        sizes[-1] = self.steps.rows.rows - sizes[:-1].sum()
        return (losses @ sizes / sizes.sum()).item()

    def _validate(self) -> dict[str, float]:
        """The metrics of the validation split, computed by the first process alone."""
        metrics: dict[str, float] = {}
        if self.trainer.is_global_zero:
            found = self.job.validate(self.model, self.job.dataset)
            metrics = {f"val/{name}": float(value) for name, value in found.items()}
        return self.trainer.strategy.broadcast(metrics)

    def _tell(self, row: Mapping[str, float]) -> None:
        monitor = self.job.monitor
        line = (
            f"epoch {row['epoch']}/{self.job.settings.max_epochs}"
            f"  train/loss {row['train/loss']:.4f}"
            f"  {monitor} {format_metric(monitor, row[monitor])}"
            f"  {perf_counter() - self.started:.1f} s"
        )
        if not self.job.quiet:
            print(line, flush=True)
        if self.on_epoch is not None:
            self.on_epoch(row)


class Steps:
    """The batches of one epoch, as slices of its rows; long epochs report their progress.

    Args:
        rows: of the epoch.
        size: of a batch.
        tells: whether progress is reported.
        least: the fewest rows of a batch; a last batch of fewer joins the one before it.
    """

    def __init__(self, rows: Batch, size: int, tells: bool, least: int = 1) -> None:
        self.rows = rows
        self.size = size
        self.tells = tells
        full, rest = divmod(rows.rows, size)
        self.count = max(full + (rest >= least), 1)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        ends = [*range(self.size, self.count * self.size, self.size), self.rows.rows]
        parts = (self.rows.slice(start, end) for start, end in pairwise([0, *ends]))
        return track_batches(parts, self.rows.rows) if self.tells else parts


def least_rows(model: nn.Module) -> int:
    """How many rows a batch needs to train `model`: batch normalisation has no variance of one."""
    return 2 if any(isinstance(module, BATCH_NORMS) for module in model.modules()) else 1


def _lightning(job: Job) -> lightning.Trainer:
    """Lightning's trainer with all switched off that we do ourselves or never need."""
    settings = job.settings
    strategy = "auto"
    plugins: list[Any] = [AtomicFile()]
    if settings.devices > 1:  # this is a process of `train_on_devices`
        # What only a task with weight 0 reads has no gradient.
        unused = 0 in job.objective.weights.values()
        strategy = "ddp_find_unused_parameters_true" if unused else "ddp"
        plugins.append(LightningEnvironment())
    return lightning.Trainer(
        max_epochs=settings.max_epochs,
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=strategy,
        precision=settings.precision,
        enable_progress_bar=False,
        plugins=plugins,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        logger=False,
    )


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Lightning's ways to fail, as Python's."""
    try:
        yield
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {error}") from error
    except SIGTERMException:
        raise Terminated from None
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise  # somebody's own; the others are Lightning's answer to an interruption
        raise stop.__context__ from None


def _share(rows: Batch, rank: int, processes: int) -> Batch:
    """Every `processes`-th row, an equal number for each; up to `processes - 1` rows are left out.

    So one step of all processes sees the rows of one step of a batch `processes` times as large.
    """
    return rows.select(torch.arange(rank, rows.rows - rows.rows % processes, processes))


def _fits(rows: Batch, device: torch.device) -> bool:
    """Whether the rows take less than half of the memory that is free on `device`."""
    if device.type != "cuda":
        return device.type == "cpu"
    size = sum(column.numel() * column.element_size() for column in rows)
    return size < torch.cuda.mem_get_info(device)[0] / 2

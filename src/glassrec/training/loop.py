"""Lightning's loop as a run uses it: a checkpoint after each epoch, from which it goes on."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from time import perf_counter
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch import Tensor

from glassrec import processes
from glassrec.metrics.metadata import format_metric
from glassrec.process_exit import Terminated
from glassrec.run import Lock
from glassrec.spelling import did_you_mean
from glassrec.training.devices import train_on_devices
from glassrec.training.job import KEY, AtomicCheckpointIO, Job, Progress
from glassrec.training.settings import OnEpoch
from glassrec.training.threads import threads

# Here, not in `train`: the processes of other devices import this module and shall be quiet, too.
for _name in ("lightning.pytorch", "lightning.fabric"):  # tips and advertisements
    logging.getLogger(_name).setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*LeafSpec", module="lightning")  # of use to its authors


def train(job: Job, on_epoch: OnEpoch, lock: Lock | None = None) -> Progress:
    """Do the rest of `job`; `on_epoch` gets each row of the history once, in order.

    The processes of several devices share the lock of the run.
    """
    before = job.progress()
    for row in before.history:
        on_epoch(row)
    if job.is_complete(before):
        return before
    done = len(before.history)
    if done and not before.epochs and not job.quiet:
        value = before.history[0][job.monitor]
        print(f"epoch 0/{job.settings.max_epochs} (start)  {job.monitor} {value:.4f}", flush=True)
    del before  # its weights lie in the old file, which would stay on the disk
    if job.settings.devices == 1 or processes.count() > 1:
        return _fit(job, on_epoch)
    try:
        train_on_devices(_fit, job, lock)
    finally:  # the epochs before one of the processes failed count, too
        after = job.progress()
        for row in after.history[done:]:
            on_epoch(row)
    return after


def _fit(job: Job, on_epoch: OnEpoch | None = None) -> Progress:
    history = EpochHistory(job, on_epoch)
    with _plain_errors(), processes.connected(), threads(history.threads):
        _trainer(job, history).fit(
            job.module, job.data, ckpt_path=job.path if job.path.exists() else None
        )
    return history.progress


def _trainer(job: Job, history: EpochHistory) -> lightning.Trainer:
    settings, given = job.settings, dict(job.settings.lightning)
    plugins = [AtomicCheckpointIO(), *as_list(given.pop("plugins", None))]
    shared = processes.count() > 1
    here = processes.on_this_machine() if shared else settings.devices
    if not shared and here > 1:  # this is a process of `train_on_devices`
        plugins.append(LightningEnvironment())
    callbacks = [*job.callbacks, *as_list(given.pop("callbacks", None))]
    loggers = [*job.loggers, *as_list(given.pop("logger", None))]
    profiler = given.pop("profiler", None)
    if profiler in ("simple", "advanced"):  # as a file: Lightning would log it
        kind = SimpleProfiler if profiler == "simple" else AdvancedProfiler
        profiler = kind(dirpath=job.path.parent, filename="profile")
    given.pop("enable_checkpointing", None)  # `EpochHistory` is a checkpoint
    defaults = {
        "default_root_dir": job.path.parent,
        "enable_progress_bar": any(isinstance(each, ProgressBar) for each in callbacks),
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return lightning.Trainer(
        max_epochs=settings.max_epochs,
        accelerator=settings.accelerator,
        devices=here,
        num_nodes=processes.count() // here if shared else 1,
        strategy=_strategy(job),
        precision=settings.precision,
        plugins=plugins,
        callbacks=[*callbacks, history],
        logger=loggers or False,
        profiler=profiler,
        **{**defaults, **given},
    )


def check_arguments(names: Mapping[str, Any]) -> None:
    """ValueError for an argument that `lightning.Trainer` does not take."""
    known = [name for name in signature(lightning.Trainer).parameters if name != "self"]
    for name in names:
        if name not in known:
            raise ValueError(
                f"trainer.{name}: lightning.Trainer has no argument {name!r}"
                f"{did_you_mean(name, known)}"
            )


def _strategy(job: Job) -> Any:
    strategy = job.settings.strategy
    if not isinstance(strategy, str):
        return strategy
    if job.settings.processes == 1:
        return "auto" if strategy.startswith("ddp") else strategy
    if strategy not in ("auto", "ddp", "ddp_spawn", "ddp_fork"):
        return strategy
    # The parameters that only a task with weight 0 reads have no gradient.
    unused = 0 in job.module.objective.weights.values()
    return "ddp_find_unused_parameters_true" if unused else "ddp"


def as_list(value: Any) -> list[Any]:
    """The objects of a list or mapping, or the only one; none if it is None."""
    if isinstance(value, Mapping):
        return [*value.values()]
    return [*value] if isinstance(value, list | tuple) else [value] if value else []


@contextmanager
def _plain_errors() -> Iterator[None]:
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


class EpochHistory(Checkpoint):
    """After each epoch: adds a row to the history, keeps the best weights, and saves all of it.

    As a `Checkpoint` it comes after all other callbacks, whose states are saved, too. `on_epoch`
    gets each new row; it is None where it could not cross to another process.
    """

    def __init__(self, job: Job, on_epoch: OnEpoch | None) -> None:
        self.job, self.on_epoch = job, on_epoch
        self.progress: Progress = job.beginning()
        self.started = 0.0
        self.threads = job.settings.threads(job.module.model)
        self.all_threads = torch.get_num_threads()
        self.on_sigterm = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Let a process of several end by SIGTERM: Lightning's handler waits for the others."""
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self.on_sigterm)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self.started = perf_counter()
        pl_module.validated = {}

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Take all threads: its batches are larger than those of training."""
        torch.set_num_threads(self.all_threads)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Go back to the threads of a training step."""
        torch.set_num_threads(self.threads)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Judge, remember the best, save, and only then report."""
        job, history = self.job, self.progress.history
        cut_off = 0 < trainer.max_steps <= trainer.global_step or trainer.should_stop
        if cut_off and not pl_module.validated and trainer.limit_val_batches:
            pl_module.validate_now()
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1}
        row |= {"train/loss": pl_module.mean_loss, **pl_module.validated}
        logged = trainer.callback_metrics.items() if pl_module.validated else ()
        row |= {
            name: float(value)
            for name, value in logged
            if name not in row and name.startswith("val/")
        }
        history.append(row)
        for optimizer in trainer.optimizers:  # gradients are as large as the weights; make room
            optimizer.zero_grad()
        if job.best_epoch(self.progress) == len(history) - 1:
            self._remember_weights(pl_module.model.state_dict())
        self.progress.stopped = trainer.should_stop
        trainer.should_stop = trainer.should_stop or job.is_complete(self.progress)
        if job.settings.shard_table:
            pl_module.model.table.sharded.save(job.table_of(self.progress.epochs))
        trainer.save_checkpoint(job.path)
        if job.settings.shard_table and trainer.is_global_zero:
            job.forget_tables(self.progress)
        if trainer.is_global_zero:
            self._report(row)

    def _remember_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Write them over those of the best epoch before, so that there is one copy at any time."""
        best = self.progress.best
        for name, tensor in weights.items():
            if name not in best:
                kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
                best[name] = torch.empty_like(tensor, device="cpu", dtype=kind)
            best[name].copy_(tensor)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Add the history and the best weights."""
        checkpoint[KEY] = self.job.pack(self.progress)

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Take the history and the best weights over."""
        self.progress = self.job.unpack(checkpoint)
        if self.job.settings.shard_table:
            pl_module.model.table.sharded.load(self.job.table_of(self.progress.epochs))

    def _report(self, row: Mapping[str, float]) -> None:
        monitor = self.job.monitor
        value = f"  {monitor} {format_metric(monitor, row[monitor])}" if monitor in row else ""
        if not self.job.quiet:
            print(
                f"epoch {row['epoch']}/{self.job.settings.max_epochs}"
                f"  train/loss {row['train/loss']:.4f}{value}"
                f"  {perf_counter() - self.started:.1f} s",
                flush=True,
            )
        if self.on_epoch is not None:
            self.on_epoch(row)

"""Settings of training, and the arguments of `lightning.Trainer` beside them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge

from glassrec.models.base import Recommender
from glassrec.processes import count, launched, on_this_machine
from glassrec.run import RUNTIME_KEYS
from glassrec.training.threads import thread_count

OnEpoch = Callable[[Mapping[str, float]], None]
"""Gets each row of the training history."""

OnSteps = Callable[[Sequence[Mapping[str, float]]], None]
"""Gets points of the curves within an epoch, see `StepMetrics`."""


@dataclass(frozen=True, init=False)
class Settings:
    """Settings of the training stage.

    Args:
        max_epochs: passes over the training rows; none at 0, which keeps the weights as they are.
        batch_size: rows of a step on each device. The processes of torchrun divide those of all
            `devices` among them.
        accelerator: where to compute; `auto` takes a GPU where there is one.
        devices: how many of them; each takes an equal share of the rows.
        strategy: how several devices work together: `auto` (as `ddp`), another name or an object
            of Lightning. Their processes are started by spawning, or by forking with `ddp_fork`.
        precision: of the training steps; with a mixed one, validation is in float32.
        monitor: the metric that selects the best epoch, as `val/NAME`; by default that of the first
            task: `ndcg@10` on ranking lists and `auroc` otherwise for clicks, `rmse` for ratings,
            `recall@10` for retrieval.
        patience: stop after so many epochs without a better one.
        compile: compile the loss by `torch.compile`; or the name of the backend.
        keep_checkpoint: keep the last checkpoint, from which a run goes on with more epochs.
        shard_table: divide the joint table among the processes of torchrun, by TorchRec.
        arguments: all other arguments of `lightning.Trainer`, such as `gradient_clip_val`.
    """

    max_epochs: int
    batch_size: int
    accelerator: str
    devices: int
    strategy: Any
    precision: Any
    monitor: str | None
    patience: int | None
    compile: bool | str
    keep_checkpoint: bool
    shard_table: bool
    lightning: Mapping[str, Any]

    def __init__(
        self,
        max_epochs: Annotated[int, Ge(0)],
        batch_size: Annotated[int, Ge(1)],
        accelerator: Literal["cpu", "gpu", "cuda", "mps", "auto"] = "cpu",
        devices: Annotated[int, Ge(1)] = 1,
        strategy: Any = "auto",
        precision: Literal[
            "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true", "32", "64",
            "16", "bf16", "transformer-engine", "transformer-engine-float16", 32, 64, 16,
        ] = "32-true",
        monitor: str | None = None,
        patience: Annotated[int, Ge(1)] | None = None,
        compile: bool | str = False,
        keep_checkpoint: bool = True,
        shard_table: bool = False,
        **arguments: Any,
    ) -> None:  # fmt: skip
        lightning = {**arguments.pop("lightning", {}), **arguments}  # `replace` hands it over
        self.__dict__.update(
            max_epochs=max_epochs, batch_size=batch_size, accelerator=accelerator, devices=devices,
            strategy=strategy, precision=precision, monitor=monitor, patience=patience,
            compile=compile, keep_checkpoint=keep_checkpoint, shard_table=shard_table,
            lightning=lightning,
        )  # fmt: skip

    def identity(self) -> str:
        """The settings on which the weights after an epoch depend, in words."""
        found = {**vars(self), **self.lightning}
        return str(
            {
                name: value if isinstance(value, str | int | float | None) else type(value).__name__
                for name, value in found.items()
                if name not in (*RUNTIME_KEYS, "lightning", "max_epochs")
            }
        )

    @property
    def device(self) -> torch.device:
        """Where models are computed, the first of several; ValueError without the GPU asked for."""
        if self.accelerator == "cpu":
            return torch.device("cpu")
        found = torch.accelerator.current_accelerator(check_available=True)
        if found is None and self.accelerator != "auto":
            raise ValueError(
                f"trainer.accelerator: {self.accelerator!r} is not allowed; PyTorch finds no GPU "
                "on this machine; take trainer.accelerator=cpu, or auto"
            )
        return found or torch.device("cpu")

    @property
    def processes(self) -> int:
        """How many processes train together: those of torchrun, or one for each device."""
        return self.devices if count() == 1 else count()

    @property
    def own_batch_size(self) -> int:
        """The rows of a step in each process; ValueError if they cannot be divided."""
        size, rest = divmod(self.batch_size * self.devices, self.processes)
        if rest:
            raise ValueError(
                f"trainer.batch_size: the {self.batch_size * self.devices} rows of a step cannot "
                f"be divided among {self.processes} processes; take a multiple of {self.processes}"
            )
        return size

    def threads(self, model: Recommender) -> int:
        """The threads of a training step of this model, see `thread_count`."""
        weights = model.parameter_count - model.table.weight.numel()
        work = self.batch_size * weights if self.device.type == "cpu" else sys.maxsize
        return thread_count(work, self.devices if count() == 1 else on_this_machine())

    def check_devices(self) -> None:
        """ValueError if there are fewer devices than processes to train on them."""
        if self.lightning.get("num_nodes", 1) != 1:
            raise ValueError(
                f"trainer.num_nodes: {self.lightning['num_nodes']} is not allowed; leave it "
                "out, and start a run on several machines by torchrun --nnodes"
            )
        kind = self.device.type
        found = cores() if kind == "cpu" else torch.accelerator.device_count()
        if launched() > 1:
            if kind != "cpu" and on_this_machine() > found:
                raise ValueError(
                    f"torchrun --nproc-per-node: {on_this_machine()} is not allowed; each process "
                    f"needs a GPU, and there are {found} here"
                )
            return
        if self.devices > found:
            here = f"{found} {'CPU core' if kind == 'cpu' else 'GPU'}{'s' if found > 1 else ''}"
            raise ValueError(
                f"trainer.devices: {self.devices} is not allowed; there are {here} here, so take "
                f"trainer.devices={found} or less"
            )


def cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

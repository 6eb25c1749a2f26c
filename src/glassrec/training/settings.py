"""What can be set about training."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge


@dataclass(frozen=True)
class Settings:
    """Settings of the training stage.

    Args:
        max_epochs: passes over the training rows; none at 0, which keeps the weights as they are.
        batch_size: rows a step, on each device.
        accelerator: where to compute; `auto` takes a GPU where there is one.
        devices: how many of them; each takes an equal share of the rows.
        strategy: how several devices work together. `auto` starts a process each by spawning;
            strategies that start the command line again would run the other stages again, too.
        precision: of the training steps; validation is always in float32.
        monitor: the metric that selects the best epoch, as `val/NAME`; by default that of the first
            task: `ndcg@10` on ranking lists and `auroc` otherwise for clicks, `rmse` for ratings,
            `recall@10` for retrieval.
        patience: stop after so many epochs without a better one.
    """

    max_epochs: Annotated[int, Ge(0)]
    batch_size: Annotated[int, Ge(1)]
    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    devices: Annotated[int, Ge(1)] = 1
    strategy: Literal["auto", "ddp_spawn", "ddp_fork"] = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    monitor: str | None = None
    patience: Annotated[int, Ge(1)] | None = None

    @property
    def device(self) -> torch.device:
        """Where models are computed; with several devices, the first of them.

        Raises:
            ValueError: a GPU is asked for and there is none.
        """
        if self.accelerator == "cpu":
            return torch.device("cpu")
        found = torch.accelerator.current_accelerator(check_available=True)
        if found is None and self.accelerator == "gpu":
            raise ValueError(
                "trainer.accelerator: 'gpu' is not allowed; PyTorch finds no GPU on this machine; "
                "take trainer.accelerator=cpu, or auto"
            )
        return found or torch.device("cpu")

    def check_devices(self) -> None:
        """ValueError if there are fewer devices than processes to train on them."""
        kind = self.device.type
        found = cores() if kind == "cpu" else torch.accelerator.device_count()
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

"""Two optimisers as one, and when a learning-rate scheduler makes its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

MakeOptimizer = Callable[[Iterable[Parameter]], Optimizer]


@dataclass(frozen=True)
class LRSchedule:
    """A learning-rate scheduler of PyTorch, and when it makes its steps, in Lightning's words.

    Args:
        scheduler: makes it of an optimiser.
        interval: whether it steps after each epoch or after each step of the optimiser.
        frequency: of those, how many there are between two of its steps.
        monitor: the metric that `ReduceLROnPlateau` watches; by default the training loss.
    """

    scheduler: Callable[[Optimizer], LRScheduler]
    interval: Literal["epoch", "step"] = "epoch"
    frequency: Annotated[int, Ge(1)] = 1
    monitor: str | None = None

    def configure(self, optimizer: Optimizer) -> dict[str, Any]:
        """The scheduler as `configure_optimizers` returns it."""
        return {
            "scheduler": self.scheduler(optimizer),
            "interval": self.interval,
            "frequency": self.frequency,
            "monitor": self.monitor or "train/loss",
        }


class SplitOptimizer(Optimizer):
    """Several optimisers of parameters of their own, which step together.

    Their groups are shared: a scheduler changes the learning rates of all.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = parts
        super().__init__([{"params": []}], dict(parts[0].defaults))
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of each; `closure`, if given, makes the gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of all."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the states of all."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

"""How a model is trained: the settings, and what comes out.

Lightning takes seconds to import, and every stage imports this module: `fit` imports it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from glassrec.data.dataset import Dataset, Split
from glassrec.models.base import Recommender

CHECKPOINT = "training.ckpt"


@dataclass(frozen=True)
class Trained:
    """What training hands on."""

    weights: dict[str, Tensor]
    """Of the epoch that was best on the validation split, on the CPU."""
    history: pd.DataFrame
    """One row an epoch: `epoch` from 1, `train/loss` in nats a row, and all of `val/...`."""


@dataclass(frozen=True)
class Trainer:
    """Settings of the training stage.

    Args:
        max_epochs: passes over the training rows.
        batch_size: rows a step, on each device.
        accelerator: where to compute; `auto` takes a GPU where there is one.
        devices: how many of them; each takes an equal share of the rows.
        strategy: how several devices work together. `auto` starts a process each by spawning;
            strategies that start the command line again would run the other stages again, too.
        precision: of the training steps; validation is always in float32.
        monitor: the metric that selects the best epoch, as `val/NAME`; by default `val/ndcg@10` on
            ranking lists and `val/auroc` otherwise.
        patience: stop after so many epochs without a better one.
    """

    max_epochs: Annotated[int, Ge(1)]
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
            raise ValueError("trainer.accelerator is gpu, and there is none; take trainer=cpu")
        return found or torch.device("cpu")

    def fit(
        self,
        model: Recommender,
        dataset: Dataset,
        optimizer: Callable[[Iterable[Parameter]], Optimizer],
        *,
        seed: int,
        directory: Path,
        validate: Callable[[Tensor, Split], Mapping[str, float]],
        on_epoch: Callable[[Mapping[str, float]], None],
    ) -> Trained:
        """Train `model`, or go on where a killed call stopped; `model` ends with the best weights.

        After every epoch all that is needed to go on is in `directory/training.ckpt`; the caller
        deletes it once the result is safe. On the CPU an interrupted run ends with the same bits.

        Args:
            model: its weights are where training starts.
            dataset: trained on its training rows, judged on its validation split only.
            optimizer: makes the optimiser of the model's parameters.
            seed: fixes negatives, order and dropout.
            directory: an existing folder.
            validate: logits (N, K) of the validation split to metrics.
            on_epoch: gets each row of the history once, in order; those of a killed call first.
                With several devices it is called when training is over.

        Raises:
            ValueError: the loss is not finite; the monitored metric does not exist; the checkpoint
                is damaged or another run's; the device is not there.
        """
        from glassrec.training.job import Job
        from glassrec.training.loop import train

        assert self.device  # complain of a missing GPU before anything else
        monitor = self._monitored(dataset, validate)
        path = directory / CHECKPOINT
        job = Job(model, dataset, optimizer, validate, self, monitor, seed, path)
        progress = train(job, on_epoch)
        model.load_state_dict(progress.best)
        return Trained(progress.best, pd.DataFrame(progress.history))

    def _monitored(
        self, dataset: Dataset, validate: Callable[[Tensor, Split], Mapping[str, float]]
    ) -> str:
        """The metric that selects, checked on logits of zero before hours of training."""
        monitor = self.monitor or ("val/ndcg@10" if dataset.ranked else "val/auroc")
        zeros = torch.zeros_like(dataset.validation.batch.targets)
        known = {
            f"val/{name}": value for name, value in validate(zeros, dataset.validation).items()
        }
        if monitor not in known:
            near = difflib.get_close_matches(monitor, known, n=1, cutoff=0.0)
            raise ValueError(
                f"trainer.monitor: no metric {monitor!r}; did you mean {near[0]!r}? There are "
                f"{', '.join(known)}"
            )
        if math.isnan(known[monitor]):
            raise ValueError(
                f"trainer.monitor: {monitor} is not defined on the validation split: all of its "
                "rows have one label; monitor val/log_loss, or split otherwise"
            )
        return monitor

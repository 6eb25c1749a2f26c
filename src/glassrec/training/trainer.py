"""How a model is trained: the settings, and the result.

Lightning takes seconds to import, and every stage imports this module: `fit` imports it.
"""

from __future__ import annotations

import difflib
import gc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from glassrec.artifacts.file_list import CHECKPOINT
from glassrec.data.dataset import Dataset
from glassrec.models.base import Recommender
from glassrec.models.embedding import TABLE
from glassrec.run import Lock
from glassrec.training.objective import Objective
from glassrec.training.optimizers import LRSchedule, MakeOptimizer
from glassrec.training.settings import OnEpoch, OnSteps, Settings

DEFAULT = Objective()


@dataclass(frozen=True)
class Trained:
    """The result of training."""

    weights: dict[str, Tensor]
    """Of the epoch that was best on the validation split, on the CPU."""
    history: pd.DataFrame
    """One row an epoch: `epoch` from 1, `train/loss` as of `Objective`, and all of `val/...`; and a
    row of epoch 0, without a loss, where the weights were trained before."""


class Trainer(Settings):
    """Trains a recommender as its settings say, and returns the best epoch.

    >>> Trainer(max_epochs=3, batch_size=256, gradient_clip_val=1.0).lightning
    {'gradient_clip_val': 1.0}
    """

    def fit(
        self,
        model: Recommender,
        dataset: Dataset,
        optimizer: MakeOptimizer,
        *,
        seed: int,
        directory: Path,
        origin: str = "",
        table_optimizer: MakeOptimizer | None = None,
        objective: Objective = DEFAULT,
        scheduler: LRSchedule | None = None,
        metrics: Mapping[str, Any] | None = None,
        callbacks: Any = None,
        logger: Any = None,
        validate: Callable[[Recommender, Dataset], Mapping[str, float]] | None = None,
        on_epoch: OnEpoch = lambda row: None,
        on_steps: OnSteps | None = None,
        started: bool = False,
        quiet: bool = False,
        lock: Lock | None = None,
    ) -> Trained:
        """Train `model`, or go on where a killed call stopped; `model` ends with the best weights.

        Without an epoch (`max_epochs` 0) the model stays as it is, and the history has no rows.
        After every epoch all that is needed to go on is in `directory/training.ckpt`; the caller
        deletes it once the result is safe. On the CPU an interrupted run ends with the same bits.

        What is not described here is as in `RecommenderModule`. `seed` fixes negatives, order and
        dropout. `directory` is an existing folder, also of what callbacks, loggers and profilers
        write. `origin` is a hash of what training starts from; a checkpoint of another is not
        continued. `callbacks` and `logger` are Lightning's, one, a list or a mapping; a logger may
        be a callable, which gets `save_dir`. `on_epoch` gets each row of the history once, in
        order, those of a killed call first; with several devices it is called when training is
        over, and `on_steps`, which gets the points of `StepMetrics`, is not. If `started`, the
        weights are trained already: they are epoch 0 of the history, which has no `train/loss`, and
        are kept if no epoch is better. The processes of several devices hold the `lock` of the run
        directory, too.

        Raises:
            ValueError: the loss is not finite; the monitored metric does not exist; the checkpoint
                is damaged or another run's; Lightning does not take an argument; the device is not
                there; or it cannot train a table with sparse gradients as the settings say.
        """
        from glassrec.training.callbacks import StepMetrics
        from glassrec.training.datamodule import RecommenderDataModule
        from glassrec.training.job import Job
        from glassrec.training.loop import as_list, check_arguments, train
        from glassrec.training.module import RecommenderModule, evaluate

        check_arguments(self.lightning)
        if table_optimizer is not None:
            self._check_sparse()
        if self.shard_table:
            self._check_sharded(model, dataset, table_optimizer)
        self.check_devices()
        module = RecommenderModule(
            model, objective=objective, optimizer=optimizer, table_optimizer=table_optimizer,
            scheduler=scheduler, metrics=metrics or {}, compile=self.compile, validate=validate,
            shard_table=self.shard_table,
        )  # fmt: skip
        objective.training_loss(dataset)  # its settings are checked, too
        found = (
            evaluate(model, dataset, "val", module.metrics)
            if validate is None
            else validate(model, dataset)
        )
        values = {f"val/{name}": float(value) for name, value in found.items()}
        labelled = dataset.labelled or self.max_epochs > 0
        monitor = self._checked_monitor(dataset, objective, values) if labelled else ""
        if self.max_epochs == 0:
            return Trained(_weights(model), pd.DataFrame(columns=["epoch", "train/loss", *values]))
        if self.lightning.get("fast_dev_run") and not quiet:
            print(
                "debug     fast_dev_run: a few batches in place of an epoch; the results say "
                "nothing of the model, and are not to be kept",
                flush=True,
            )
        loggers = [
            each(save_dir=directory / "logs") if callable(each) else each
            for each in as_list(logger)
        ]
        curves = [StepMetrics(on_steps)] if on_steps and self.processes == 1 else []
        job = Job(
            module,
            RecommenderDataModule(
                dataset, batch_size=self.own_batch_size, seed=seed, verbose=not quiet
            ),
            self, monitor, directory / CHECKPOINT, [*as_list(callbacks), *curves], loggers, origin,
            quiet,
            {"epoch": 0, **values} if started else None,
        )  # fmt: skip
        progress = train(job, on_epoch, lock)
        gc.collect()  # Lightning's objects form circles, which hold the state of the optimisers
        if self.shard_table:
            progress.best[TABLE] = job.sharded_table(progress)
            model.load(progress.best, "training", share_table=True)
        else:
            model.load_state_dict(progress.best)
        best = progress.best
        if model.fold_norms():
            best = {n: best[n] if n == TABLE else t for n, t in _weights(model).items()}
        rows = progress.history
        columns = dict.fromkeys(["epoch", "train/loss", *values, *(k for row in rows for k in row)])
        return Trained(best, pd.DataFrame(rows, columns=list(columns)))

    def monitored_metric(self, dataset: Dataset, objective: Objective) -> str:
        """The metric that selects the best epoch: by default of the first task that is learnt."""
        if self.monitor:
            return self.monitor
        defaults = {
            "click": "ndcg@10" if dataset.ranked else "auroc",
            "rating": "rmse",
            "retrieval": "recall@10",
        }
        target = objective.first(dataset.schema.targets)
        return f"val/{dataset.schema.metric(target, defaults[target.kind])}"

    def _check_sparse(self) -> None:
        if self.lightning.get("gradient_clip_val"):
            raise ValueError(
                "table_optimizer: not with trainer.gradient_clip_val, as PyTorch does not clip "
                "sparse gradients; leave one of them out"
            )
        if self.precision == "16-mixed":
            # Its scale may change between the steps of two optimisers.
            raise ValueError(
                "table_optimizer: not with trainer.precision=16-mixed; take bf16-mixed or 32-true"
            )
        if self.processes > 1 and self.device.type != "cpu":
            raise ValueError(
                f"table_optimizer: not with trainer.devices={self.processes}, as GPUs do not "
                "add up sparse gradients; take trainer.devices=1 or table_optimizer=none"
            )

    def _check_sharded(
        self, model: Recommender, dataset: Dataset, table_optimizer: MakeOptimizer | None
    ) -> None:
        from glassrec.training.sharding import check_shardable

        check_shardable(model.table, table_optimizer)
        others = {
            "trainer.compile": self.compile,
            "trainer.accumulate_grad_batches": self.lightning.get("accumulate_grad_batches", 1) > 1,
            "a retrieval target": any(t.kind == "retrieval" for t in dataset.schema.targets),
            "trainer.devices": self.devices > 1,
        }
        if found := [name for name, given in others.items() if given]:
            raise ValueError(f"trainer.shard_table: not with {found[0]}; leave one of them out")

    def _checked_monitor(
        self, dataset: Dataset, objective: Objective, found: Mapping[str, float]
    ) -> str:
        """The metric that selects, checked on the untrained model before hours of training."""
        monitor = self.monitored_metric(dataset, objective)
        if monitor not in found:
            near = difflib.get_close_matches(monitor, found, n=1, cutoff=0.0)
            raise ValueError(
                f"trainer.monitor: no metric {monitor!r}; did you mean {near[0]!r}? There are "
                f"{', '.join(found)}"
            )
        if math.isnan(found[monitor]):
            raise ValueError(
                f"trainer.monitor: {monitor} is not defined on the validation split: all of its "
                "rows have one label; monitor val/log_loss, or split otherwise"
            )
        return monitor


def _weights(model: Recommender) -> dict[str, Tensor]:
    """A copy of the weights on the CPU, without normalisations."""
    model.fold_norms()
    return {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}

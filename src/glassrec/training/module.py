"""A recommender as a `LightningModule`: its loss, optimisers, schedule and validation metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, distributed
from torch.nn import Parameter
from torch.optim import Optimizer
from torchmetrics import Metric

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Schema
from glassrec.metrics.quality import quality
from glassrec.models.base import Recommender
from glassrec.processes import alone
from glassrec.training.callbacks import FiniteLoss, GroupLasso
from glassrec.training.datamodule import EvaluationBatches
from glassrec.training.objective import Objective
from glassrec.training.optimizers import LRSchedule, MakeOptimizer, SplitOptimizer
from glassrec.training.recipe import Recipe, rebuild, recipes
from glassrec.training.sharding import ShardedTable, check_shardable

DEFAULT = Objective()
ADAM = partial(torch.optim.Adam, lr=0.001)

Validate = Callable[[Recommender, Dataset], Mapping[str, float]]


class RecommenderModule(LightningModule):
    """Trains a recommender by a `lightning.Trainer` with a `RecommenderDataModule`.

    Override `training_step`, `validation_step` or `configure_optimizers` as in any module. What is
    logged as `val/...` may select the best epoch.

    Args:
        model: a model, or a callable that makes it of a schema, such as `partial(GMF, factors=8)`;
            only the latter can be rebuilt by `load_from_checkpoint` without its argument `model`.
        schema: of the data, where `model` is a callable.
        objective: the loss.
        optimizer: makes the optimiser of the parameters.
        table_optimizer: makes that of the joint table, whose gradients are sparse then.
        scheduler: makes a learning-rate scheduler of the optimiser, after each epoch; or an
            `LRSchedule`, which says when it steps.
        metrics: torchmetrics by name, of the probability of a click or the estimate of a rating;
            logged as `val/NAME`, beside the metrics of `quality`.
        compile: whether the loss is compiled by `torch.compile`; or the backend that compiles it.
        validate: gives metrics in place of those, from all rows in one process.
        shard_table: whether the processes divide the joint table, see `ShardedTable`.

    Examples:
        >>> from glassrec.data.planted import Planted
        >>> from glassrec.models.ncf import GMF
        >>> schema = Planted(rows=100).load(seed=0).schema
        >>> RecommenderModule(partial(GMF, factors=2), schema).model.width
        2
    """

    loss: Callable[[Recommender, Batch], Tensor]

    def __init__(
        self,
        model: Recommender | Callable[[Schema], Recommender] | Recipe,
        schema: Schema | Recipe | None = None,
        *,
        objective: Objective | Recipe = DEFAULT,
        optimizer: MakeOptimizer | Recipe = ADAM,
        table_optimizer: MakeOptimizer | Recipe | None = None,
        scheduler: LRSchedule | Callable[[Optimizer], Any] | Recipe | None = None,
        metrics: Mapping[str, Metric | Recipe] | None = None,
        compile: bool | str = False,
        validate: Validate | None = None,
        shard_table: bool = False,
    ) -> None:
        super().__init__()
        given = {
            "model": model, "schema": schema, "objective": objective, "optimizer": optimizer,
            "table_optimizer": table_optimizer, "scheduler": scheduler, "metrics": metrics,
            "compile": compile,
        }  # fmt: skip
        self.save_hyperparameters(recipes(given))
        made = {name: rebuild(value) for name, value in given.items()}
        self.model: Recommender = made["model"]
        if not isinstance(self.model, Recommender):
            self.model = made["model"](made["schema"])
        self.objective: Objective = made["objective"]
        self.optimizer: MakeOptimizer = made["optimizer"]
        self.table_optimizer: MakeOptimizer | None = made["table_optimizer"]
        self.scheduler = made["scheduler"]
        self.metrics: dict[str, Metric] = dict(made["metrics"] or {})  # no submodules: no state
        self.compile_loss, self.validate, self.shard_table = compile, validate, shard_table
        self.finite_loss, self.mean_loss = FiniteLoss(), float("nan")
        self.validated: dict[str, float] = {}
        self._logits: list[Tensor] = []

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a known text at once: Lightning sets the name of its hook some 40 times a step, and
        the way of `nn.Module`, which looks for parameters, took 5 % of a step of 256 rows.
        """
        if isinstance(value, str | None) and name in self.__dict__:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def data(self) -> Any:
        """The `RecommenderDataModule` of the trainer."""
        data = getattr(self.trainer, "datamodule", None)
        if not hasattr(data, "dataset"):
            raise ValueError("RecommenderModule: pass a RecommenderDataModule to Trainer.fit")
        return data

    def forward(self, batch: Batch) -> Tensor:
        """The logits (B, K) of a batch."""
        return self.model(batch)

    def setup(self, stage: str) -> None:
        """Build the loss of the tasks of the data."""
        table = self.model.table
        table.sparse = self.table_optimizer is not None and stage == "fit"
        if self.shard_table and stage == "fit":
            settings = check_shardable(table, self.table_optimizer)
            table.shard(
                ShardedTable(table.weight.detach(), self.trainer.strategy.root_device, **settings)
            )
        self.loss = self.objective.training_loss(self.data.dataset)
        if self.compile_loss:
            backend = {} if self.compile_loss is True else {"backend": self.compile_loss}
            self.loss = torch.compile(self.loss, **backend)  # type: ignore[call-overload]

    def teardown(self, stage: str) -> None:
        """Leave a model whose gradients are dense."""
        self.model.table.sparse = False

    def configure_optimizers(self) -> Any:
        """One optimiser of all parameters, or one of the joint table and one of the others."""
        if self.table_optimizer is None:
            optimizer = self.optimizer(self.model.parameters())
        elif self.shard_table:
            others = [*self.model.parameters()]
            optimizer = SplitOptimizer([self.optimizer(others), self.model.table.sharded.optimizer])
        else:
            table = cast(Parameter, self.model.table.weight)
            others = [each for each in self.model.parameters() if each is not table]
            parts = [*([self.optimizer(others)] if others else []), self.table_optimizer([table])]
            optimizer = SplitOptimizer(parts)
        if self.scheduler is None:
            return optimizer
        schedule = self.scheduler
        schedule = schedule if isinstance(schedule, LRSchedule) else LRSchedule(schedule)
        return {"optimizer": optimizer, "lr_scheduler": schedule.configure(optimizer)}

    def configure_callbacks(self) -> list[Callback]:
        """The guard against losses that are not finite, and the group lasso if it is asked for."""
        lasso = self.objective.l1 > 0 or self.objective.group_lasso > 0
        return [self.finite_loss, *([GroupLasso(self.objective)] if lasso else [])]

    def on_fit_start(self) -> None:
        """Find the ids that the training rows hold."""
        history = self.model.schema.history_length > 0
        rows = self.objective.training_rows(self.data.dataset)
        self.seen_ids = rows.seen_ids(history=history)

    def on_train_epoch_start(self) -> None:
        """Seed dropout by seed, epoch and process alone, so that a resumed run agrees."""
        entropy = (self.data.seed, self.current_epoch, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch, a number."""
        loss = self.loss(self.model, batch)
        if self.trainer.loggers:  # a log of each step costs time
            self.log("train/step_loss", loss, on_step=True, on_epoch=False)
        return loss

    def on_train_epoch_end(self) -> None:
        """Finish the table, and log the mean loss over the rows of the epoch."""
        self._average_unseen()
        self.mean_loss = self.finite_loss.mean(self.trainer)
        self.log("train/loss", self.mean_loss, sync_dist=True)

    @torch.no_grad()
    def _average_unseen(self) -> None:
        self.model.table.average_unseen(self.seen_ids)

    def on_validation_start(self) -> None:
        """Forget earlier metrics, and finish the table where training rows changed it."""
        self.validated = {}
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._average_unseen()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the logits of a batch, always in float32."""
        if self.validate is None:
            with torch.autocast(self.device.type, enabled=False):
                self._logits.append(self.model(batch).cpu())

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the split, the same in all processes."""
        logits, self._logits = self._logits, []
        if not self.trainer.sanity_checking:
            self.validated = self._evaluated("val", logits)
            self.log_dict(self.validated, sync_dist=True)

    @torch.no_grad()
    def validate_now(self) -> None:
        """Validate outside of Lightning's validation, which it skips where an epoch is cut off."""
        training = self.training
        self.eval()
        for number, batch in enumerate(self.data.val_dataloader()):
            self.validation_step(batch.to(self.device), number)
        self.on_validation_epoch_end()
        self.train(training)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As for validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test split."""
        logits, self._logits = self._logits, []
        self.log_dict(self._evaluated("test", logits), sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The logits (B, K) of a batch."""
        return self.model(batch)

    def _evaluated(self, name: str, logits: list[Tensor]) -> dict[str, float]:
        dataset: Dataset = self.data.dataset
        processes = self.trainer.world_size
        first = self.global_rank == 0 or self.shard_table  # all look rows of a divided one up
        own = torch.cat([*logits, torch.empty(0, len(dataset.schema.targets))])
        shares = [own] * processes if first else None
        if processes > 1 and self.shard_table:
            distributed.all_gather_object(shares, own)
        elif processes > 1:
            distributed.gather_object(own, shares)
        with alone():  # the first process computes the metrics, and the others wait
            found = self._metrics(dataset, name, shares) if shares else {}
        named = {f"{name}/{metric}": float(value) for metric, value in found.items()}
        return self.trainer.strategy.broadcast(named)

    def _metrics(self, dataset: Dataset, name: str, shares: list[Tensor]) -> Mapping[str, float]:
        """The metrics of the split, given the logits of the share of each process."""
        if self.validate is not None:
            return self.validate(self.model, dataset)
        rows, places = dataset.splits[name].batch, []
        for rank, share in enumerate(shares):
            index = EvaluationBatches(rows, rank, len(shares)).index(rank)
            places.append(index[: len(share)])
        place, order = torch.cat(places).sort()
        return evaluate(self.model, dataset, name, self.metrics, torch.cat(shares)[order], place)


def evaluate(
    model: Recommender,
    dataset: Dataset,
    name: str,
    metrics: Mapping[str, Metric],
    logits: Tensor | None = None,
    rows: Tensor | None = None,
) -> dict[str, float]:
    """The metrics of `quality` and torchmetrics on the split `name`.

    `logits` (n, K) are those of the model if they are None, and belong to the `rows` (n,),
    ascending; all if None. Ranking lists that they do not cover are left out.

    Raises:
        ValueError: there is nothing to evaluate, or a torchmetric does not suit a task.
    """
    split = dataset.splits[name]
    if logits is not None and rows is not None and len(rows) < split.batch.rows:
        chosen = _whole_lists(split, rows)
        query = None if split.query is None else split.query[rows[chosen]]
        split, logits = Split(split.batch.select(rows[chosen]), query), logits[chosen]
        changed: dict[str, Any] = {_SPLIT_FIELDS[name]: split}
        dataset = replace(dataset, **changed)
    return quality(model, dataset, name, logits=logits, own=metrics)


_SPLIT_FIELDS = {"train": "train", "val": "validation", "test": "test"}


def _whole_lists(split: Split, rows: Tensor) -> Tensor:
    """Which of the rows (n,) are of ranking lists that are among them as a whole; n bool."""
    if split.query is None:
        return torch.ones_like(rows, dtype=torch.bool)
    query, length = split.query.cpu(), int(split.query.max()) + 1
    whole = query.bincount(minlength=length) == query[rows].bincount(minlength=length)
    if not whole[query[rows]].any():
        raise ValueError(
            f"trainer.limit_val_batches: {len(rows)} rows hold no whole ranking list; raise it"
        )
    return whole[query[rows]]

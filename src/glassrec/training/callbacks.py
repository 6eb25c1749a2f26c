"""Callbacks of a `RecommenderModule`: guard of the loss, curves within epochs, group lasso."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.linalg import vector_norm
from torch.optim import Optimizer

from glassrec.data.batch import Batch
from glassrec.models.base import Recommender
from glassrec.models.layers import PrunableLayer
from glassrec.training.objective import Objective
from glassrec.training.settings import OnSteps

CHECK_EVERY_STEPS = 1000
"""Steps between two checks for a loss that is not finite; each waits for the device."""

REPORT_EVERY_SECONDS = 2.0
"""The least time between two reports of points within an epoch; each waits for the device."""


class FiniteLoss(Callback):
    """Ends a training whose loss is not finite, and gives the mean loss of an epoch.

    Nothing in a step waits for the device: losses stay there until they are checked.
    """

    def __init__(self) -> None:
        self._recent: list[Tensor] = []
        self._checked: list[Tensor] = []
        self._sizes: list[int] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the epoch before."""
        self._recent, self._checked, self._sizes = [], [], []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss, and check the last ones now and then."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            self._recent.append(loss.detach())
            self._sizes.append(batch.rows if isinstance(batch, Batch) else 1)
        if (batch_idx + 1) % CHECK_EVERY_STEPS == 0:
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check before a model of such losses is validated."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        if not self._recent:
            return
        losses = torch.stack(self._recent)
        if trainer.accumulate_grad_batches > 1:  # Lightning divides them by it
            losses = losses * trainer.accumulate_grad_batches
        losses = trainer.strategy.reduce(losses, reduce_op="mean").cpu().double()
        for place in (~losses.isfinite()).nonzero()[:1].flatten().tolist():
            step = sum(map(len, self._checked)) + place + 1
            raise ValueError(
                f"the training loss is {losses[place]} at epoch {trainer.current_epoch + 1}, step "
                f"{step} of {trainer.num_training_batches}; lower the learning rate, or look for "
                "extreme values in the data"
            )
        self._recent = []
        self._checked.append(losses)

    def mean(self, trainer: Trainer) -> float:
        """The mean loss over the rows of the epoch so far; batches may differ in size."""
        self._check(trainer)
        sizes = torch.tensor(self._sizes, dtype=torch.float64)
        return (torch.cat([sizes[:0], *self._checked]) @ sizes / sizes.sum()).item()


class StepMetrics(Callback):
    """Gives curves within epochs to `report`, with a point every `trainer.log_every_n_steps` steps.

    A point has `step/number`, of steps of the optimiser; since the last point, the mean `step/loss`
    over the batches and `step/rows_per_second`; and at this step `step/learning_rate` and
    `step/gradient_norm`, the Euclidean norm before clipping. Shorter epochs have one point each.
    Points stay on the device until `REPORT_EVERY_SECONDS` have passed or the epoch ends.
    """

    def __init__(self, report: OnSteps) -> None:
        self.report = report
        self._points: list[dict[str, Any]] = []
        self._reported = 0.0
        self._begin()

    def _begin(self) -> None:
        self._losses: list[Tensor] = []
        self._norm: Tensor | None = None
        self._rows, self._began = 0, perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin()
        self._reported = self._began

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Measure the gradients where a point is due."""
        steps = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)
        every = trainer.log_every_n_steps or steps  # type: ignore[attr-defined]  # Lightning sets it
        if (trainer.global_step + 1) % min(every, steps) == 0:
            found = (each.grad for each in pl_module.parameters() if each.grad is not None)
            parts = [each.coalesce().values() if each.is_sparse else each for each in found]
            self._norm = vector_norm(torch.stack([vector_norm(each) for each in parts]))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch, and a point if one is due."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        self._losses += [] if loss is None else [loss.detach()]
        self._rows += batch.rows if isinstance(batch, Batch) else 1
        if self._norm is None or not self._losses:
            return
        self._points.append({
            "step/number": trainer.global_step,
            "step/loss": torch.stack(self._losses).mean() * trainer.accumulate_grad_batches,
            "step/learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "step/gradient_norm": self._norm,
            "step/rows_per_second": self._rows / (perf_counter() - self._began),
        })  # fmt: skip
        self._begin()
        if self._began - self._reported > REPORT_EVERY_SECONDS:
            self._report()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the last points."""
        self._report()

    def _report(self) -> None:
        points, self._points = self._points, []
        self.report([{name: float(value) for name, value in each.items()} for each in points])
        self._reported = perf_counter()


class GroupLasso(Callback):
    """Shrinks the weights of each neuron by the strengths of the objective, to exact zeros.

    A subgradient makes weights small and never zero: after each step of the optimiser comes the
    proximal operator instead, in closed form. The weights of a neuron are those that read it, in
    all downstream layers together, or, where none of those has weights, those that make it; the
    embedding table is left alone. With w of them, n in number, the penalty is l1 · |w|₁ +
    group_lasso · √n · ‖w‖₂ (Simon, Friedman, Hastie and Tibshirani, "A sparse-group lasso", JCGS
    2013; for neurons: Scardapane et al., "Group sparse regularization for deep neural networks",
    Neurocomputing 2017). Groups that overlap are shrunk one after the other. A weight is shrunk in
    proportion to its learning rate.
    """

    def __init__(self, objective: Objective) -> None:
        self.l1, self.group_lasso = objective.l1, objective.group_lasso
        self.groups: list[list[tuple[Tensor, dict[str, Any]]]] = []
        self.steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the weights, now that they and the optimisers are restored."""
        assert isinstance(pl_module.model, Recommender)
        self.attach(pl_module.model, trainer.optimizers)
        self.steps = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Shrink after each step of the optimiser; batches whose gradients add up make one."""
        if trainer.global_step > self.steps:
            self.steps = trainer.global_step
            self.shrink()

    def attach(self, model: Recommender, optimizers: Iterable[Optimizer]) -> None:
        """Find the weights of a model once: finding them waits for the device."""
        settings = {
            _address(parameter): group
            for optimizer in optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.requires_grad
        }
        found = [_weights(layer, settings) for layer in model.layers.values()]
        self.groups = [weights for weights in found if weights]

    @torch.no_grad()
    def shrink(self) -> None:
        """The proximal operator of one step of the optimisers; never waits for the device."""
        for weights in self.groups:
            if self.l1:
                for view, group in weights:
                    size = group["lr"] * self.l1
                    view.sub_(view.clamp(-size, size))
            if self.group_lasso:
                self._shrink_together(weights)

    def _shrink_together(self, weights: list[tuple[Tensor, dict[str, Any]]]) -> None:
        columns = [view.reshape(-1, view.shape[-1]) for view, _ in weights]
        norm = vector_norm(torch.stack([vector_norm(each, dim=0) for each in columns]), dim=0)
        norm.clamp_min_(torch.finfo(norm.dtype).tiny)
        size = self.group_lasso * sum(len(each) for each in columns) ** 0.5
        for view, group in weights:
            view.mul_((1 - group["lr"] * size / norm).clamp_min_(0))


def _weights(layer: PrunableLayer, settings: dict[int, Any]) -> list[tuple[Tensor, dict[str, Any]]]:
    """Views (..., U) of a layer's trained weights, with the settings of the optimiser of each."""
    views = [view.detach() for view in layer.outgoing_weights() or layer.incoming_weights()]
    return [(view, settings[_address(view)]) for view in views if _address(view) in settings]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()

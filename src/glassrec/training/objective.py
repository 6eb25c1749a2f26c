"""The loss of training: each task by the loss of its kind, weighted and added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, cast

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional as F

from glassrec.data.batch import Batch, Split
from glassrec.data.catalogue import Catalogue, Negatives
from glassrec.data.dataset import Dataset
from glassrec.data.schema import UNSEEN, Schema, Target
from glassrec.models.base import Inputs, Recommender
from glassrec.models.history import HistoryModel, by_length
from glassrec.models.retriever import Retriever, as_retriever
from glassrec.spelling import one_of


@dataclass(frozen=True)
class Objective:
    """The loss of a batch: the sum over tasks of weight times mean over rows.

    A click has the binary cross-entropy of its logit, in nats; a rating the squared error of its
    estimate, in units of the variance of the training ratings (1 is as good as their mean); a
    retrieval the cross-entropy of its item among the items of the batch, in nats. So the weights of
    tasks do not depend on the unit of a rating.

    Weights can be kept small or few beside it, so that neurons become inactive and can be pruned;
    see `GroupLasso`. This is no part of the loss of a batch: `train/loss` stays the loss on the
    data.

    Args:
        weights: by the name of the task; 1 where nothing is named, and 0 leaves the task out.
        steps: `last` learns a row's item from the history before it; `every` learns each item of a
            user from those before, see `EveryStepLoss`: a batch then has so many users.
        temperature: divides the dot products of retrieval in the loss.
        group_lasso: loss for a neuron of ‖w‖₂ · √n, w being the n weights that read it; makes
            whole neurons zero (Yuan and Lin, "Model selection and estimation in regression with
            grouped variables", JRSS B 2006).
        l1: loss for a unit of |w|₁ over the same weights; makes single ones zero. Both together are
            the sparse group lasso.
        l2_embeddings: loss for a row of the batch of ½ ‖v‖₂² over the vectors that it looks up, so
            that rows outside the batch stay as they are (Rendle et al., "BPR", UAI 2009).
        l2_kernels: loss of ½ ‖W‖₂² over the matrices outside the table; biases are free.
    """

    weights: Mapping[str, Annotated[float, Ge(0)]] = field(default_factory=dict)
    steps: Literal["last", "every"] = "last"
    temperature: Annotated[float, Gt(0)] = 1.0
    group_lasso: Annotated[float, Ge(0)] = 0.0
    l1: Annotated[float, Ge(0)] = 0.0
    l2_embeddings: Annotated[float, Ge(0)] = 0.0
    l2_kernels: Annotated[float, Ge(0)] = 0.0

    def first(self, targets: Sequence[Target]) -> Target:
        """The first task that is learnt; one of them is."""
        return next(target for target in targets if self.weights.get(target.name, 1))

    def training_rows(self, dataset: Dataset) -> Dataset:
        """With the training rows of an epoch; ValueError for every step of data without users."""
        if self.steps == "last":
            return dataset
        if dataset.sequences is None or dataset.negatives is None:
            raise ValueError(
                "objective.steps: every needs data.history=200 and data/split=leave_one_out"
            )
        rows = dataset.train.batch.select(dataset.sequences)
        return replace(dataset, train=Split(rows), negatives=None)

    def training_loss(self, dataset: Dataset) -> Callable[[Recommender, Batch], Tensor]:
        """The loss of a batch of `training_rows`; ValueError as there and of `build_loss`."""
        loss = self.build_loss(dataset)
        self.training_rows(dataset)
        if self.steps == "every" and (self.l2_embeddings or self.l2_kernels):
            raise ValueError(
                "objective.l2_*: not with objective.steps=every; leave one of them out"
            )
        return EveryStepLoss(cast(Negatives, dataset.negatives)) if self.steps == "every" else loss

    def build_loss(self, dataset: Dataset) -> Loss:
        """The loss on a dataset's tasks; ValueError if a weight is of no task, or all are zero."""
        targets = dataset.schema.targets
        names = [target.name for target in targets]
        for name in self.weights:
            if name not in names:
                raise ValueError(f"objective.weights: no task {name!r}{one_of(name, names)}")
        weights = [float(self.weights.get(name, 1)) for name in names]
        if not any(weights):
            raise ValueError("objective.weights: all are zero, so there is nothing to learn")
        softmax = None
        if any(target.kind == "retrieval" for target in targets):
            assert dataset.catalogue is not None, "retrieval is of a user's items"
            softmax = InBatchSoftmax(dataset.catalogue, dataset.schema, self.temperature)
        return Loss(targets, weights, softmax, self.l2_embeddings, self.l2_kernels)


@dataclass(frozen=True)
class Loss:
    """The loss of a batch; a task of weight 0 is not computed."""

    targets: tuple[Target, ...]
    weights: list[float]
    softmax: InBatchSoftmax | None = None
    l2_embeddings: float = 0.0
    l2_kernels: float = 0.0

    def __call__(self, model: Recommender, batch: Batch) -> Tensor:
        """The loss, a number; ValueError if retrieval is learnt and `model` is no retriever."""
        inputs = model.embed(batch)
        learnt = [task for task, weight in enumerate(self.weights) if weight]
        scored = any(self.targets[task].kind != "retrieval" for task in learnt)
        # Retrieval reads no scores, but all pairs of queries and candidates.
        scores = model.score(inputs) if scored else batch.targets
        truths = model.target_scale.standardized(batch.targets)
        parts = []
        for task in learnt:
            kind, truth = self.targets[task].kind, truths[:, task]
            if kind == "retrieval":
                assert self.softmax is not None, "made where the data has such a task"
                part = self.softmax(as_retriever(model), inputs, batch, truth)
            else:
                loss = F.binary_cross_entropy_with_logits if kind == "click" else F.mse_loss
                part = loss(scores[:, task], truth)
            parts.append(self.weights[task] * part)
        if self.l2_embeddings or self.l2_kernels:
            penalty = self._penalty(model, inputs)
            parts.append(penalty - penalty.detach())  # its gradient alone
        return sum(parts[1:], parts[0])

    def _penalty(self, model: Recommender, inputs: Inputs) -> Tensor:
        past = inputs.history * inputs.steps.unsqueeze(2)
        looked_up = (inputs.fields.square().sum() + past.square().sum()) / inputs.rows
        kernels = [w for w in model.parameters() if w.dim() > 1 and w is not model.table.weight]
        squares = sum((w.square().sum() for w in kernels), looked_up.new_zeros(()))
        return (self.l2_embeddings * looked_up + self.l2_kernels * squares) / 2


class InBatchSoftmax:
    """The cross-entropy of each row's item among the items of the batch (Yi et al., RecSys 2019).

    An item stands in a batch as often as in the training rows, so log q, with q the item's share of
    them, is taken off every logit. Where the same item stands in a batch more than once, a row is
    not set against the others.
    """

    def __init__(self, catalogue: Catalogue, schema: Schema, temperature: float) -> None:
        assert schema.item is not None, "a catalogue is one of items"
        self.column = catalogue.columns[0]
        self.temperature = temperature
        place = schema.field_index(schema.item)
        self.first = schema.offsets[place] + UNSEEN
        share = catalogue.counts / catalogue.counts.sum()
        self.log_q = torch.zeros(schema.fields[place].size)
        self.log_q[catalogue.rows[:, 0] - self.first] = share.log()

    def __call__(self, model: Retriever, inputs: Inputs, batch: Batch, truth: Tensor) -> Tensor:
        """The mean over the rows of `truth` (B,) 1; all rows are candidates for each other."""
        items = batch.ids[:, self.column]
        self.log_q = self.log_q.to(items.device)  # moves it once
        products = model.query(inputs) @ model.candidate(inputs).T
        logits = products / self.temperature - self.log_q[items - self.first]
        twice = (items.unsqueeze(1) == items).fill_diagonal_(False)
        own = torch.arange(len(items), device=items.device)
        losses = F.cross_entropy(logits.masked_fill(twice, -torch.inf), own, reduction="none")
        return (losses * truth).sum() / truth.sum().clamp_min(1)


@dataclass(frozen=True)
class EveryStepLoss:
    """The binary cross-entropy of each step's next item and of a negative, as SASRec is trained.

    The steps of a history from the second on, and the item of the row, are the positives. As a
    state has read the steps up to it alone, one pass over a sequence gives the states of all.
    """

    negatives: Negatives

    def __call__(self, model: Recommender, batch: Batch) -> Tensor:
        """The mean over positives and negatives; ValueError for a model without histories."""
        if not isinstance(model, HistoryModel):
            name = type(model).__name__
            raise ValueError(f"objective.steps: every is for model=sasrec or lstm, not {name}")
        catalogue, losses = self.negatives.catalogue, []
        users = batch._replace(history=batch.history[:, :0])
        following = torch.cat([batch.history[:, 1:], batch.ids[:, [catalogue.columns[0]]]], 1)
        for index, past in by_length(batch.history, -(-batch.rows // 4)):  # has less padding
            there = past > 0
            states = model.read(*model.table.history(past), every=True)[there]
            rows = users.select(index.unsqueeze(1).expand_as(past)[there].repeat(2))
            own = rows.ids[: len(states), catalogue.user].cpu()
            drawn = self.negatives.draw(own, torch.default_generator)
            positives = catalogue.numbers(following[index, -past.shape[1] :][there].cpu())
            catalogue.insert(rows, 0, torch.cat([positives, drawn]))
            positive, negative = model.compare(states.repeat(2, 1), model.embed(rows)).chunk(2)
            losses.append(F.softplus(torch.cat([-positive, negative], 1)))  # −log σ, −log (1 − σ)
        return torch.cat(losses).sum() / max(2 * int((batch.history > 0).sum()), 1)

"""Quality of a model on one split: each task by the metrics of its kind, in float64.

Where training has not seen some users or items, rows of those have metrics of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import isnan
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Schema
from glassrec.metrics import pointwise
from glassrec.metrics.bootstrap import bootstrap, mean
from glassrec.metrics.evaluation import DEFAULT, Evaluation
from glassrec.metrics.full_ranking import coverage_and_novelty, full_ranks
from glassrec.metrics.grouped import mean_metrics
from glassrec.metrics.metadata import GROUPS
from glassrec.metrics.retrieval import each_user, first_places, unseen_users
from glassrec.metrics.user_metrics import user_metrics
from glassrec.models.base import Recommender
from glassrec.processes import count, from_first, rank

if TYPE_CHECKING:  # it takes seconds to import
    from torchmetrics import Metric

KNOWN, *_ = GROUPS

GROUP_METRICS = frozenset(
    ["auroc", "auroc_low", "auroc_high", "log_loss", "calibration", "rmse", "mae", "bias", "hr@10",
     "ndcg@10", "recall@10"]
)  # fmt: skip
"""The metrics that a group gets."""

ALL = slice(None)

NO_METRICS: Mapping[str, Metric] = MappingProxyType({})


def quality(
    model: Recommender,
    dataset: Dataset,
    name: str,
    *,
    groups: bool = False,
    logits: Tensor | None = None,
    own: Mapping[str, Metric] = NO_METRICS,
    further: Evaluation = DEFAULT,
) -> dict[str, float]:
    """The metrics of a model on the split `name`; `task/metric` where there are several tasks.

    With `groups`, also those of users and items that training has seen or not, see `by_group`, and
    the 95 % intervals of HR, NDCG and recall, `hr@10_low` to `hr@10_high`, over lists or users;
    `logits` (N, K) are those of the split, if they are known already. `own` are the user's metrics,
    `further` the settings of others.

    Raises:
        ValueError: the split is empty, a logit is not finite, or the split does not suit a task.
    """
    split, schema = dataset.splits[name], dataset.schema
    logits = predicted(model, split) if logits is None else logits
    if count() > 1:  # the first process computes the metrics
        known = partial(quality, groups=groups, logits=logits, own=own, further=further)
        return from_first(lambda: known(model, dataset, name))
    logits = _checked(logits.double())
    if not dataset.labelled:
        return {}
    targets = split.batch.targets.double().cpu()
    query = None if split.query is None else split.query.cpu()
    found: dict[str, float] = {}
    for column, target in enumerate(schema.targets):
        score, truth = logits[:, column], targets[:, column]
        units, each = "rows", dict[str, Tensor]()
        if target.kind == "retrieval":
            units, each = "users", each_user(model, dataset, name, column, further=further)
            measure = partial(_means, each)
            metrics = measure()
        elif target.kind == "click" and query is not None:
            places = pointwise.held_out_places(score, truth == 1, query)
            units, each = "lists", pointwise.place_metrics(*places, further.ks, mrr=further.extra)
            measure, metrics = partial(_means, each), pointwise.click_metrics(score, truth, query)
            metrics |= measure()
        else:
            compute = (
                pointwise.rating_metrics if target.kind == "rating" else pointwise.click_metrics
            )
            measure = partial(_of_rows, compute, score, truth)
            metrics = measure()
        if groups:
            metrics |= _intervals(each)
            metrics |= by_group(measure, _unseen(dataset, name, column, units), units)
        if further != DEFAULT:
            metrics |= _further(model, dataset, name, column, score, further)
        found |= {schema.metric(target, metric): value for metric, value in metrics.items()}
    return found | user_metrics(own, schema, split, logits)


def _further(
    model: Recommender, dataset: Dataset, name: str, column: int, score: Tensor, further: Evaluation
) -> dict[str, float]:
    """Metrics of full lists, and of users whose rows are in no lists, with intervals."""
    schema, split = dataset.schema, dataset.splits[name]
    kind, catalogue, ks = schema.targets[column].kind, dataset.catalogue, further.ks
    if kind == "retrieval" and further.extra and catalogue is not None:
        shown = first_places(model, dataset, name, column, max(ks))
        found, values = coverage_and_novelty(shown, catalogue, ks)
        return found | _means(values) | _intervals(values)
    if kind == "click" and split.query is not None and further.full_ranking and catalogue:
        higher, ties, shown = full_ranks(model, dataset, name, column, max(ks))
        found, values = coverage_and_novelty(shown, catalogue, ks * further.extra)
        values |= pointwise.place_metrics(higher, ties, ks, mrr=further.extra)
        found |= _means(values) | _intervals(values)
        return {f"full/{metric}": value for metric, value in found.items()}
    if kind == "click" and split.query is None and further.extra and schema.user:
        users = split.batch.ids[:, schema.id_columns(schema.user)[0]].cpu()
        known = users != schema.unseen_id(schema.user)
        _, owner = users[known].unique(return_inverse=True)
        return mean_metrics(score[known], split.batch.targets[known, column].cpu() == 1, owner)
    return {}


def _of_rows(
    compute: Callable[[Tensor, Tensor], dict[str, float]],
    score: Tensor,
    truth: Tensor,
    rows: Tensor | slice = ALL,
) -> dict[str, float]:
    return compute(score[rows], truth[rows])


def _means(values: Mapping[str, Tensor], chosen: Tensor | slice = ALL) -> dict[str, float]:
    return {name: each[chosen].mean().item() for name, each in values.items()}


def _intervals(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The ends of the 95 % interval of each mean over lists or users (U,), by a bootstrap."""
    if not values:
        return {}
    units = len(next(iter(values.values())))
    found = bootstrap({metric: mean(each) for metric, each in values.items()}, units, seed=0)
    return {
        f"{metric}_{end}": value
        for metric, three in found.items()
        for end, value in zip(("low", "high"), three[1:], strict=True)
    }


def predicted(model: Recommender, split: Split) -> Tensor:
    """The logits (N, K) of a split in float64, in the first process; ValueError if there are none,
    or not all finite.
    """
    logits = model.predict(split.batch).double()
    return logits if rank() else _checked(logits)


def _checked(logits: Tensor) -> Tensor:
    if not len(logits):
        raise ValueError("no rows to evaluate: the split is empty")
    bad = (~logits.isfinite()).nonzero()
    if len(bad):
        row, task = bad[0].tolist()
        raise ValueError(
            f"{len(bad)} of {logits.numel()} logits are not finite, the first is "
            f"{logits[row, task]} at row {row}; lower the learning rate, or look for extreme dense "
            "values"
        )
    return logits


def by_group(
    measure: Callable[[Tensor], Mapping[str, float]], lacking: Mapping[str, Tensor], unit: str
) -> dict[str, float]:
    """The metrics of each group, `known/auroc` or `unseen_item/auroc`, and its size, `known/rows`.

    Nothing where no unit is unseen, or none is known. Metrics that a group does not define, such as
    the AUROC of one label, are left out. `measure` gives the metrics of chosen units, (U,) bool;
    `lacking` has, by group, whether training lacks a unit's user or item, (U,) bool; `unit` is
    rows, lists or users.
    """
    if not lacking:
        return {}
    any_unseen = torch.stack([*lacking.values()]).any(0)
    if not any_unseen.any() or any_unseen.all():
        return {}
    found = {}
    for group, chosen in {KNOWN: ~any_unseen, **lacking}.items():
        if chosen.any():
            found[f"{group}/{unit}"] = float(chosen.sum())
            for name, value in measure(chosen).items():
                if name in GROUP_METRICS and not isnan(value):
                    found[f"{group}/{name}"] = value
    return found


def _unseen(dataset: Dataset, name: str, column: int, units: str) -> dict[str, Tensor]:
    """(U,) bool by group: of rows, of lists by their user and held-out item, or of users."""
    if units == "users":
        return {"unseen_user": unseen_users(dataset, name, column)}
    split = dataset.splits[name]
    rows = unseen_rows(split, dataset.schema)
    positive = split.batch.targets[:, column].cpu() == 1
    return rows if units == "rows" else {group: each[positive] for group, each in rows.items()}


def unseen_rows(split: Split, schema: Schema) -> dict[str, Tensor]:
    """`unseen_user` and `unseen_item`, (N,) bool: whether training lacks the id in a row's field.

    Fields without the role are left out. A value too rare for an id of its own counts as unseen.
    """
    found = {}
    for role, name in (("unseen_user", schema.user), ("unseen_item", schema.item)):
        if name is not None:
            ids = split.batch.ids[:, schema.id_columns(name)[0]].cpu()
            found[role] = ids == schema.unseen_id(name)
    return found

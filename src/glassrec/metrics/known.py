"""The same metrics for users and items that training has seen, and for those that it has not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isnan

import torch
from torch import Tensor

from glassrec.data.dataset import Split
from glassrec.data.schema import UNSEEN, Schema
from glassrec.metrics.metadata import GROUPS

KNOWN, *_ = GROUPS

SHOWN = frozenset(
    ["auroc", "auroc_low", "auroc_high", "log_loss", "calibration", "rmse", "mae", "bias", "hr@10",
     "ndcg@10", "recall@10"]
)  # fmt: skip
"""The metrics that a group gets."""


def unseen(split: Split, schema: Schema) -> dict[str, Tensor]:
    """`unseen_user` and `unseen_item`, (N,) bool: whether training lacks the id in a row's field.

    Fields without the role are left out. A value too rare for an id of its own counts as unseen.
    """
    found = {}
    for role, name in (("unseen_user", schema.user), ("unseen_item", schema.item)):
        if name is not None:
            first = schema.offsets[schema.field_index(name)] + UNSEEN
            found[role] = split.batch.ids[:, schema.id_columns(name)[0]].cpu() == first
    return found


def by_group(
    measure: Callable[[Tensor], Mapping[str, float]], lacking: Mapping[str, Tensor], unit: str
) -> dict[str, float]:
    """The metrics of each group, `known/auroc` or `unseen_item/auroc`, and its size, `known/rows`.

    Nothing where no unit is unseen, or none is known. Metrics that a group does not define, such as
    the AUROC of one label, are left out.

    Args:
        measure: gives the metrics of chosen units, (U,) bool.
        lacking: by group, (U,) bool: whether training lacks a unit's user or item.
        unit: what is counted: rows, lists or users.
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
            found |= {
                f"{group}/{name}": value
                for name, value in measure(chosen).items()
                if name in SHOWN and not isnan(value)
            }
    return found

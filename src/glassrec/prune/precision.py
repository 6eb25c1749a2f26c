"""Copies of a model in float64 for proofs, and their weights in float32 where that is exact."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from glassrec.models.base import Recommender
from glassrec.models.embedding import JointTable


def copy_sharing_table(model: Recommender) -> Recommender:
    """A copy to prune, not to train or to load into: both hold the same numbers of the table.

    Pruning takes a narrower table and changes no number of the old one, which alone is large.
    """
    table = model.table.weight
    shared = nn.Parameter(table.detach(), requires_grad=table.requires_grad)
    return deepcopy(model, {id(table): shared})


def to_float64(model: Recommender) -> Recommender:
    """Such a copy in float64: on the model's device, but for Apple's, which has none.

    The rows of the joint table become so as they are looked up, which gives the same numbers.
    """
    copy = copy_sharing_table(model)
    copy = copy.cpu() if model.device.type == "mps" else copy
    if not isinstance(copy.table, JointTable):
        return copy.double()
    table, copy.table.weight = copy.table.weight, nn.Parameter(torch.empty(0))
    copy.double().table.weight = table
    return copy


def to_float32_where_equal(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float64 as float32 where that loses nothing.

    Biases that folded a constant stay float64: the file holds the very numbers that were certified.
    """
    found = {}
    for name, tensor in weights.items():
        single = tensor.cpu().float()
        equal = tensor.dtype == torch.float64 and torch.equal(single.double(), tensor.cpu())
        found[name] = single if equal else tensor.cpu()
    return found

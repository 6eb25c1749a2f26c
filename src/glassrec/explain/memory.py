"""How many rows may pass a model at once."""

from __future__ import annotations

import torch
from torch import Tensor

from glassrec.models.base import Inputs, Recommender

LEAST = 16
"""Rows that always pass at once, whatever they take."""


def rows_at_once(model: Recommender, row: Inputs, budget: int) -> int:
    """How many rows fit into `budget` bytes while the logit is differentiated.

    It is measured and so holds for any model: what autograd keeps for eight rows and not for four,
    twice, as each activation meets its gradient.

    Args:
        model: in evaluation mode.
        row: one embedded row, or more; the first one is taken.
        budget: in bytes.
    """
    inputs = sum(part[0].nbytes for part in row)
    each = inputs + (_kept(model, row, 8) - _kept(model, row, 4)) / 4
    return max(LEAST, int(budget / max(1.0, 2 * each)))


def _kept(model: Recommender, row: Inputs, rows: int) -> int:
    """The bytes that autograd keeps for a backward pass of so many rows."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    repeated = Inputs(*(part[:1].expand(rows, *part.shape[1:]).clone() for part in row))
    leaves = Inputs(*(part.requires_grad_() for part in repeated))
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        logits = model.task_logits(leaves)  # kept alive, so that no storage is used twice
    del logits
    return sum(storages.values())

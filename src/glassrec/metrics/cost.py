"""What a model costs: numbers, work and room, the same at each measurement."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from glassrec.data.batch import Batch
from glassrec.models.base import Recommender

TABLE = "table.weight"
"""The name of the embedding table among a model's weights."""

ROWS = 64
"""Rows, at most, whose work is counted."""


def cost(model: Recommender, weights: Mapping[str, Tensor], batch: Batch) -> dict[str, float]:
    """What a model costs, by name.

    `parameters`, all of them, and `tower_parameters`, those outside the embedding table; `bytes` of
    all tensors as they are saved, and `tower_bytes`, those outside the table; and `flops`.

    Args:
        model: the model.
        weights: its tensors as they are saved, by name.
        batch: any rows; their work is counted.
    """
    sizes = {name: tensor.nbytes for name, tensor in weights.items()}
    return {
        "parameters": float(model.parameter_count),
        "tower_parameters": float(model.parameter_count - model.table.weight.numel()),
        "flops": flops(model, batch),
        "bytes": float(sum(sizes.values())),
        "tower_bytes": float(sum(size for name, size in sizes.items() if name != TABLE)),
    }


@torch.no_grad()
def flops(model: Recommender, batch: Batch) -> float:
    """Floating point operations of a row's way from ids to logits, a multiplication and an addition
    being two.

    Those of products of matrices are counted, of which the pairs of a dot interaction are one, as
    they are what grows with the square of a width. Not counted is what is done number by number:
    biases, ReLU, gates and the product of two vectors, as in generalised matrix factorisation.
    """
    rows = batch.slice(0, ROWS)
    with FlopCounterMode(display=False) as counter:
        model(rows.to(model.device))
    return counter.get_total_flops() / rows.rows

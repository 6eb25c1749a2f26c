"""What a model costs."""

from __future__ import annotations

from glassrec.models.base import Recommender


def cost(model: Recommender) -> dict[str, float]:
    """`parameters`, all of them, and `tower_parameters`, those outside the embedding table."""
    tables = model.table.weight.numel()
    return {
        "parameters": float(model.parameter_count),
        "tower_parameters": float(model.parameter_count - tables),
    }

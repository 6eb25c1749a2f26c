"""How close estimated ratings are."""

from __future__ import annotations

from torch import Tensor


def ratings(score: Tensor, target: Tensor) -> dict[str, float]:
    """`rmse` and `mae` of estimates (N,) of numbers (N,), in the unit of the ratings."""
    error = score - target
    return {"rmse": error.square().mean().sqrt().item(), "mae": error.abs().mean().item()}

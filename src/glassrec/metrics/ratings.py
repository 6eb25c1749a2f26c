"""How close estimated ratings are."""

from __future__ import annotations

from torch import Tensor


def ratings(score: Tensor, target: Tensor) -> dict[str, float]:
    """`rmse`, `mae` and `bias` of estimates (N,) of numbers (N,), in the unit of the ratings.

    `bias` is the mean error: above 0, estimates are too high.
    """
    error = score - target
    return {
        "rmse": error.square().mean().sqrt().item(),
        "mae": error.abs().mean().item(),
        "bias": error.mean().item(),
    }

"""Student's t distribution, without a library that takes long to import."""

from __future__ import annotations

import numpy as np


def student(share: float, freedom: int) -> float:
    """The quantile of Student's t distribution, by its density in the angle atan(t / √freedom)."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 100_001)
    density = np.cos(angle).clip(min=0) ** (freedom - 1)
    below = np.concatenate([[0], ((density[1:] + density[:-1]) / 2).cumsum()])
    at = np.interp(share, below / below[-1], angle)
    return float(np.sqrt(freedom) * np.tan(at))

"""The unit of a rating: models compute in standard units, all other code in the user's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glassrec.data.schema import Target


class TargetScale(nn.Module):
    """The affine map between the scores of K tasks and their estimates.

    The score of a rating is in standard units: mean 0 and deviation 1 over the training rows, so
    that learning rates suit any unit. Clicks and retrievals stay as they are. Mean and deviation
    are saved with the weights: a model keeps the unit that it was trained in.
    """

    mean: Tensor
    """(K,)"""
    deviation: Tensor
    """(K,), above 0"""

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        self.tasks = len(targets)
        self.identity = all(target.kind != "rating" for target in targets)
        if not self.identity:
            self.register_buffer("mean", torch.tensor([target.mean for target in targets]))
            deviations = [target.deviation for target in targets]
            self.register_buffer("deviation", torch.tensor(deviations))

    @property
    def units(self) -> Tensor:
        """(K,): one standard unit of each task, in the unit of its estimates; 1 but for ratings."""
        return torch.ones(self.tasks) if self.identity else self.deviation

    def forward(self, scores: Tensor) -> Tensor:
        """The estimates (B, K) in the unit of the data, from scores (B, K)."""
        return scores if self.identity else scores * self.deviation + self.mean

    def standardized(self, targets: Tensor) -> Tensor:
        """The targets (B, K) in the unit of the scores, from those of the data (B, K)."""
        return targets if self.identity else (targets - self.mean) / self.deviation

    def conversion_from(self, other: TargetScale) -> tuple[Tensor, Tensor]:
        """Factor and shift (K,), by which a score in the other scale has the same estimate in this
        one.
        """
        if self.identity:
            return torch.ones(self.tasks), torch.zeros(self.tasks)
        factor = other.deviation / self.deviation
        return factor, (other.mean - self.mean) / self.deviation

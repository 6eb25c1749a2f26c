"""A model before and after a cut, on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Schema
from glassrec.metrics.quality import predicted
from glassrec.models.base import Recommender


@dataclass(frozen=True)
class Pair:
    """The large model and the small one that it became, and the split that they are compared on."""

    large: Recommender
    small: Recommender
    dataset: Dataset
    name: str
    """of the split: train, val or test"""

    @property
    def schema(self) -> Schema:
        """What the columns of the data are."""
        return self.dataset.schema

    @property
    def split(self) -> Split:
        """The rows."""
        return self.dataset.splits[self.name]

    @cached_property
    def logits(self) -> tuple[Tensor, Tensor]:
        """(N, K) float64 of each model; ValueError if there are none, or not all finite."""
        return predicted(self.large, self.split), predicted(self.small, self.split)

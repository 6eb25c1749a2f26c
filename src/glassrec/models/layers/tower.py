"""The layers that most models are built of: towers, products and embedding dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from glassrec.models.layers.affine import Affine
from glassrec.models.layers.prunable import PrunableLayer


class Hidden(PrunableLayer):
    """A hidden layer of a tower: ReLU(W x + b)."""

    def __init__(self, parts: Sequence[int], size: int) -> None:
        super().__init__(size)
        self.affine = Affine(parts, size)
        self.relu = nn.ReLU()

    def forward(self, *parts: Tensor) -> Tensor:
        """(B, U), none below zero."""
        return cast(Tensor, self.relu(self.affine(*parts)))

    def incoming_weights(self) -> list[Tensor]:
        """The rows of W, as columns (in, U)."""
        return [self.affine.weight.T]

    def _keep(self, kept: Tensor) -> None:
        self.affine.keep_outputs(kept)


class Tower(nn.ModuleList):
    """Hidden layers, each the consumer of the one before; the caller registers the last one's."""

    def __init__(self, parts: Sequence[int], sizes: Sequence[int]) -> None:
        widths = [parts, *([size] for size in sizes[:-1])]
        layers = [Hidden(width, size) for width, size in zip(widths, sizes, strict=True)]
        super().__init__(layers)
        for layer, consumer in pairwise(layers):
            layer.register_consumer(consumer.affine)

    @property
    def first(self) -> Hidden:
        """The layer that reads the inputs of the tower."""
        return cast(Hidden, self[0])

    @property
    def last(self) -> Hidden:
        """The layer whose activations leave the tower."""
        return cast(Hidden, self[-1])

    def forward(self, *parts: Tensor) -> Tensor:
        """(B, U): the activations of the last layer."""
        first, *rest = self
        hidden = first(*parts)
        for layer in rest:
            hidden = layer(hidden)
        return hidden


class Product(PrunableLayer):
    """The element-wise product of two vectors (B, E), as in generalised matrix factorisation."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, U)."""
        return self.read(left) * self.read(right)

    def read(self, vector: Tensor) -> Tensor:
        """(B, U): the dimensions of a vector (B, E) that are multiplied."""
        return vector[:, self.units] if len(self.units) < self.size else vector

    def _keep(self, kept: Tensor) -> None:
        """Nothing is computed but the product itself."""


class Dimensions(PrunableLayer):
    """The vectors of some fields side by side: (B, F, W) to (B, U), each number a neuron.

    Args:
        names: of the F fields.
        columns: which W columns of the joint table these are.
    """

    def __init__(self, names: Sequence[str], columns: range) -> None:
        super().__init__(len(names) * len(columns))
        self.names = tuple(names)
        self.columns = columns

    def forward(self, fields: Tensor) -> Tensor:
        """(B, U), field by field."""
        flat = fields.flatten(1)
        return flat.index_select(1, self.units) if len(self.units) < self.size else flat

    @property
    def read(self) -> Tensor:
        """(F, W) bool: which numbers are still there."""
        return self.remaining.view(len(self.names), len(self.columns))

    def neuron_names(self, layer: str) -> list[str]:
        """`user[3]`: the field and the column of the joint table, as features are called."""
        names = [f"{name}[{column}]" for name in self.names for column in self.columns]
        return [names[unit] for unit in self.units.tolist()]

    def _keep(self, kept: Tensor) -> None:
        """Nothing is computed: the numbers that are passed on follow from `units`."""


def over_positions(layer: nn.Module, values: list[Tensor]) -> Tensor:
    """Conductances (B, U) at positions side by side, added up, (1, B, U); of steps as (C, B, U)."""
    stacked = torch.stack(values)
    return stacked.sum(0, keepdim=True) if getattr(layer, "parallel", False) else stacked

"""The layers that most models are built of: towers, products and embedding dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from glassrec.models.embedding import JointTable
from glassrec.models.layers.affine import Affine
from glassrec.models.layers.prunable import PrunableLayer

ALIGNED = 16
"""Matrix products of 4,096 rows are up to five times as slow where they have another number of
columns than a multiple of this (64 bytes), measured with 11 in place of 16 on an AMD EPYC."""


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

    def fold(self, table: JointTable) -> None:
        """Compute zeros beside the neurons, up to the next multiple of `ALIGNED`."""
        del self.relu
        self.relu = cast(nn.ReLU, torch.relu)  # nobody reads activations of this copy
        left = torch.arange(len(self.units), device=self.units.device)
        width = min(self.size, -(-len(left) // ALIGNED) * ALIGNED)
        if all(isinstance(consumer, Affine) for consumer, _ in self._consumers):
            self.affine.spread_outputs(left.new_zeros(width), left)
            for consumer, part in self._consumers:
                cast(Affine, consumer).spread_inputs(part, left, width)

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

    def fold(self, table: JointTable) -> None:
        """Multiply whole vectors."""
        self.size = len(self.units)

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

    def fold(self, table: JointTable) -> None:
        """Pass on all that is stored of the fields; consumers have weights of zero on the rest."""
        places, width = table.places(self.names, self.columns)
        kept = places.flatten()[self.units]
        for consumer, part in self._consumers:
            cast(Affine, consumer).spread_inputs(part, kept, width)
        self.size, self.units = width, torch.arange(width, device=kept.device)

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

"""The layers that most models are built of: hidden layers of a tower, and products of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from glassrec.models.layers.home import Layer
from glassrec.models.layers.readers import Affine


class Hidden(Layer):
    """A hidden layer of a tower: ReLU(W x + b)."""

    def __init__(self, parts: Sequence[int], size: int) -> None:
        super().__init__(size)
        self.affine = Affine(parts, size)
        self.relu = nn.ReLU()

    def forward(self, *parts: Tensor) -> Tensor:
        """(B, U), none below zero."""
        return cast(Tensor, self.relu(self.affine(*parts)))

    def incoming(self) -> list[Tensor]:
        """The rows of W, as columns (in, U)."""
        return [self.affine.weight.T]

    def _keep(self, kept: Tensor) -> None:
        self.affine.keep_outputs(kept)


class Tower(nn.ModuleList):
    """Hidden layers, each feeding the next; whoever builds it declares what reads the last."""

    def __init__(self, parts: Sequence[int], sizes: Sequence[int]) -> None:
        widths = [parts, *([size] for size in sizes[:-1])]
        layers = [Hidden(width, size) for width, size in zip(widths, sizes, strict=True)]
        super().__init__(layers)
        for layer, reader in pairwise(layers):
            layer.feeds(reader.affine)

    @property
    def first(self) -> Hidden:
        """The layer that reads what enters the tower."""
        return cast(Hidden, self[0])

    @property
    def last(self) -> Hidden:
        """The layer whose units leave the tower."""
        return cast(Hidden, self[-1])

    def forward(self, *parts: Tensor) -> Tensor:
        """(B, U): what the last layer emits."""
        first, *rest = self
        hidden = first(*parts)
        for layer in rest:
            hidden = layer(hidden)
        return hidden


class Product(Layer):
    """The element-wise product of two vectors (B, E), as in generalised matrix factorisation."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, U)."""
        return self.read(left) * self.read(right)

    def read(self, vector: Tensor) -> Tensor:
        """(B, U): the dimensions of a vector (B, E) that are multiplied."""
        return vector[:, self.units] if len(self.units) < self.size else vector

    def _keep(self, kept: Tensor) -> None:
        """Nothing is computed but the product itself."""

"""The layers that most models are built of: towers, products and embedding dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, cast

import torch
from annotated_types import Interval
from torch import Tensor, nn

from glassrec.models.embedding import JointTable
from glassrec.models.layers.affine import Affine
from glassrec.models.layers.prunable import PrunableLayer

ALIGNED = 16
"""Matrix products of 4,096 rows are up to five times as slow where they have another number of
columns than a multiple of this (64 bytes), measured with 11 in place of 16 on an AMD EPYC."""


Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"]

Dropout = Annotated[float, Interval(ge=0, lt=1)]

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU, "silu": nn.SiLU,
    "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
}  # fmt: skip


class Hidden(PrunableLayer):
    """A hidden layer of a tower: ReLU(W x + b), or another activation.

    In training, W x + b may be normalised over the batch (Ioffe and Szegedy, ICML 2015), and
    activations may be dropped (Srivastava et al., JMLR 2014). After training `fold_norm` makes the
    normalisation a part of W and b.
    """

    def __init__(
        self, parts: Sequence[int], size: int, activation: Activation = "relu",
        dropout: Dropout = 0.0, batch_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(size)
        self.affine = Affine(parts, size)
        self.norm = nn.BatchNorm1d(size) if batch_norm else None
        self.activation: Callable[[Tensor], Tensor] = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.register_load_state_dict_pre_hook(_drop_norm)

    def forward(self, *parts: Tensor) -> Tensor:
        """(B, U)."""
        return self.activate(self.affine(*parts))

    def activate(self, sums: Tensor) -> Tensor:
        """The activations (B, U) of W x + b (B, U)."""
        sums = sums if self.norm is None else self.norm(sums)
        active = self.activation(sums)
        return active if self.dropout is None else cast(Tensor, self.dropout(active))

    @torch.no_grad()
    def fold_norm(self) -> bool:
        """Let W x + b be what the normalisation makes of it outside of training, up to rounding;
        whether there is one.
        """
        if self.norm is None:
            return False
        norm, affine = self.norm.double(), self.affine
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        affine.bias.copy_((affine.bias - norm.running_mean) * factor + norm.bias)
        affine.weight.copy_(affine.weight * factor.unsqueeze(1))
        self.norm = None
        return True

    def incoming_weights(self) -> list[Tensor]:
        """The rows of W, as columns (in, U)."""
        return [self.affine.weight.T]

    def fold(self, table: JointTable) -> None:
        """Compute zeros beside the neurons, up to the next multiple of `ALIGNED`."""
        if isinstance(self.activation, nn.ReLU):
            del self.activation
            self.activation = torch.relu  # nobody reads activations of this copy
        left = torch.arange(len(self.units), device=self.units.device)
        width = min(self.size, -(-len(left) // ALIGNED) * ALIGNED)
        if all(isinstance(consumer, Affine) for consumer, _ in self._consumers):
            self.affine.spread_outputs(left.new_zeros(width), left)
            for consumer, part in self._consumers:
                cast(Affine, consumer).spread_inputs(part, left, width)

    def _keep(self, kept: Tensor) -> None:
        self.affine.keep_outputs(kept)


def _drop_norm(layer: Any, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Before loading: leave out a normalisation that is folded in the weights that come."""
    if f"{prefix}affine.weight" in state and f"{prefix}norm.weight" not in state:
        layer.norm = None


class Tower(nn.ModuleList):
    """Hidden layers, each the consumer of the one before; the caller registers the last one's."""

    def __init__(
        self,
        parts: Sequence[int],
        sizes: Sequence[int],
        activation: Activation = "relu",
        dropout: Dropout = 0.0,
        batch_norm: bool = False,
    ) -> None:
        widths = [parts, *([size] for size in sizes[:-1])]
        layers = [
            Hidden(width, size, activation, dropout, batch_norm)
            for width, size in zip(widths, sizes, strict=True)
        ]
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

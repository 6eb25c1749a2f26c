"""The embedding dimensions that a tower reads, as units that can be explained and pruned."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from glassrec.models.layers import Layer


class Dimensions(Layer):
    """The vectors of some fields side by side: (B, F, W) to (B, U), each number a unit.

    Args:
        names: of the F fields.
        columns: which W columns of the joint row these are.
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
        """(F, W) bool: which numbers are there."""
        return self.left.view(len(self.names), len(self.columns))

    def unit_names(self, layer: str) -> list[str]:
        """`user[3]`: the field, and the column of the joint row, as players are called."""
        names = [f"{name}[{column}]" for name in self.names for column in self.columns]
        return [names[unit] for unit in self.units.tolist()]

    def _keep(self, kept: Tensor) -> None:
        """What is passed on follows from `units`."""

"""A deep network over all features side by side: the reference that cross networks are held to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import Affine, Tower


def dense_and(fields: Sequence[str] | None, data: Schema, model: str) -> Schema:
    """The schema of a model of all dense columns and of these fields, all of them if None.

    Raises:
        ValueError: the data has no such field, or nothing is left to read.
    """
    reads = data.take(dense=data.dense, fields=data.field_names if fields is None else fields)
    if not reads.dense and not reads.fields:
        raise ValueError(f"{model} has nothing to read: no dense columns, and no field is chosen")
    return reads


def side_by_side(inputs: Inputs) -> Tensor:
    """[dense ; fields]: (B, D + F·E)."""
    return torch.cat([inputs.dense, inputs.fields.flatten(1)], 1)


def start_small(table: nn.Embedding) -> None:
    """Uniform within .05, as in the authors' tutorial for TensorFlow Recommenders."""
    nn.init.uniform_(table.weight, -0.05, 0.05)


class DNN(Recommender):
    """A ReLU tower over [dense ; fields].

    Args:
        data: the columns of the batches; all of its dense columns are read.
        fields: the fields that are read; all of the data's if None.
        embedding: the width of a field's vector.
        hidden: the sizes of the hidden layers.
    """

    def __init__(
        self,
        data: Schema,
        fields: Sequence[str] | None = None,
        embedding: Annotated[int, Ge(1)] = 32,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] = (192, 192, 192),
    ) -> None:
        reads = dense_and(fields, data, "DNN")
        super().__init__(data, reads, embedding)
        self.tower = Tower([len(reads.dense) + len(reads.fields) * embedding], hidden)
        self.output = Affine([hidden[-1]], len(data.targets))
        self.tower.last.feeds(self.output)
        start_small(self.table)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        return self.output(self.tower(side_by_side(inputs)))

"""A deep network over all features side by side: the reference that cross networks are held to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, MinLen
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import Dimensions, Output, Tower


def dense_and(fields: Sequence[str] | None, data: Schema, model: str) -> Schema:
    """The schema of a model of all dense columns and of these fields, all of them if None.

    Raises:
        ValueError: the data has no such field, or nothing is left to read.
    """
    reads = data.select(dense=data.dense, fields=data.field_names if fields is None else fields)
    if not reads.dense and not reads.fields:
        raise ValueError(f"{model} has nothing to read: no dense columns, and no field is chosen")
    return reads


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
        self.embedding = Dimensions(reads.field_names, range(embedding))
        self.tower = Tower([len(reads.dense), self.embedding.size], hidden)
        self.output = Output([hidden[-1]], data.targets)
        self.embedding.register_consumer(self.tower.first.affine, 1)
        self.tower.last.register_consumer(self.output)
        start_small(self.table)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        return self.output(self.tower(inputs.dense, self.embedding(inputs.fields)))

    def dimensions(self) -> Tensor:
        """Those that the tower reads."""
        return self.embedding.read

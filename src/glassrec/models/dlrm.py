"""The deep learning recommendation model (Naumov et al., 2019, arXiv:1906.00091)."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Annotated

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.interaction import DotInteraction
from glassrec.models.layers import Affine, Output, Tower


class DLRM(Recommender):
    """A bottom tower over the dense columns, dot products of all pairs of vectors, a top tower.

    The top tower reads [dense vector ; pairs]. The defaults are the sizes of the published
    configuration for Criteo: bottom 13-512-256-64-16, 27 vectors of 16, top 367-512-256-1.

    Args:
        data: the columns of the batches; all of its dense columns and fields are read.
        embedding: the width of the vectors that interact.
        bottom: the sizes of the bottom tower's hidden layers below the dense vector, which is
            itself a ReLU layer of `embedding` units.
        top: the sizes of the top tower's hidden layers.
    """

    def __init__(
        self,
        data: Schema,
        embedding: Annotated[int, Ge(1)] = 16,
        bottom: Sequence[Annotated[int, Ge(1)]] = (512, 256, 64),
        top: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] = (512, 256),
    ) -> None:
        if not data.dense or not data.fields:
            raise ValueError(
                f"DLRM needs dense columns and categorical fields, and the data has "
                f"{len(data.dense)} and {len(data.fields)}; take another model or other data"
            )
        super().__init__(data, data.select(dense=data.dense, fields=data.field_names), embedding)
        self.bottom = Tower([len(data.dense)], [*bottom, embedding])
        self.interaction = DotInteraction(["dense", *data.field_names], embedding)
        self.top = Tower([self.interaction.size], top)
        self.output = Output([top[-1]], data.targets)
        self.bottom.last.register_consumer(self.interaction)
        self.interaction.register_consumer(self.top.first.affine)
        self.top.last.register_consumer(self.output)
        self._initialise()

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        dense = self.bottom(inputs.dense)
        return self.output(self.top(self.interaction(dense, inputs.fields)))

    def dimensions(self) -> Tensor:
        """All of a field as long as one of its pairs is left: products need whole vectors."""
        return self.interaction.multiplied[1:].unsqueeze(1).expand(-1, self.width)

    @torch.no_grad()
    def _initialise(self) -> None:
        """As published: tables uniform within 1/√rows, layers normal."""
        for field, offset in zip(self.schema.fields, self.schema.offsets, strict=True):
            bound = 1 / sqrt(field.size)
            self.table.weight[offset : offset + field.size].uniform_(-bound, bound)
        for module in self.modules():
            if isinstance(module, Affine):
                out, width = module.weight.shape
                nn.init.normal_(module.weight, std=sqrt(2 / (out + width)))
                nn.init.normal_(module.bias, std=sqrt(1 / out))

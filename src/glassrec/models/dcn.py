"""Deep and cross network, version 2 (Wang et al., WWW 2021, arXiv:2008.13535)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.cross import CrossNetwork
from glassrec.models.dnn import dense_and, start_small
from glassrec.models.layers import Output, Tower


class DCN(Recommender):
    """Cross layers x ← x₀ ⊙ (W x + b) + x over x₀ = [dense ; fields], and a deep tower.

    The numbers of x₀ are no units: every cross layer multiplies them and passes them on, so that
    none can go exactly, however constant it is. That holds in either structure.

    Args:
        data: the columns of the batches; all of its dense columns are read.
        fields: the fields that are read; all of the data's if None.
        embedding: the width of a field's vector.
        cross_layers: how many; L layers hold all products of up to L + 1 inputs.
        projection_dim: the rank of W = U V; None is full rank.
        deep: the sizes of the deep tower's hidden layers; empty for a cross network alone.
        structure: stacked: the tower reads the last cross layer. parallel: it reads x₀, and the
            output reads both.
    """

    def __init__(
        self,
        data: Schema,
        fields: Sequence[str] | None = None,
        embedding: Annotated[int, Ge(1)] = 32,
        cross_layers: Annotated[int, Ge(1)] = 1,
        projection_dim: Annotated[int, Ge(1)] | None = None,
        deep: Sequence[Annotated[int, Ge(1)]] = (192, 192),
        structure: Literal["stacked", "parallel"] = "stacked",
    ) -> None:
        reads = dense_and(fields, data, "DCN")
        super().__init__(data, reads, embedding)
        self.sizes = [1] * len(reads.dense) + [embedding] * len(reads.fields)
        width = sum(self.sizes)
        self.cross = CrossNetwork(width, cross_layers, projection_dim)
        self.tower = Tower([width], deep) if deep else None
        self.parallel = structure == "parallel"
        crossed = [width] if self.parallel or not deep else []
        self.output = Output([*crossed, *tuple(deep)[-1:]], data.targets)
        if self.tower is not None:
            self.tower.last.register_consumer(self.output, len(crossed))
        start_small(self.table)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        start = torch.cat([inputs.dense, inputs.fields.flatten(1)], 1)
        crossed = self.cross(start)
        if self.tower is None:
            return self.output(crossed)
        if self.parallel:
            return self.output(crossed, self.tower(start))
        return self.output(self.tower(crossed))

    def feature_pairs(self) -> Tensor:
        """The Frobenius norms of the first cross layer's blocks."""
        return self.cross.block_norms(self.sizes)

"""Deep and cross network, version 2 (Wang et al., WWW 2021, arXiv:2008.13535), and its DNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, cast

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn
from torch.nn import functional as F

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import (
    Activation,
    Affine,
    Dimensions,
    Dropout,
    Output,
    PrunableLayer,
    Tower,
)

START = 0.05
"""Tables start uniform within ± this, as in the authors' tutorial for TensorFlow Recommenders."""


class Projection(PrunableLayer):
    """The components V x of a low-rank cross layer: (B, width) to (B, U), linear and without bias.

    A constant component can be pruned: it adds a bias to the layer.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__(size)
        self.weight = nn.Parameter(torch.empty(size, width))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, U)."""
        return F.linear(x, self.weight)

    def incoming_weights(self) -> list[Tensor]:
        """The rows of V, as columns (width, U)."""
        return [self.weight.T]

    def _keep(self, kept: Tensor) -> None:
        self.weight = nn.Parameter(self.weight[kept].detach().clone())


class Cross(nn.Module):
    """x₀ ⊙ (W x + b) + x; `projection` is the rank of W = U V, which is a matrix of its own if
    None.
    """

    def __init__(self, width: int, projection: int | None) -> None:
        super().__init__()
        self.projection = None if projection is None else Projection(width, projection)
        self.affine = Affine([projection or width], width)
        if self.projection is not None:
            self.projection.register_consumer(self.affine)

    def forward(self, start: Tensor, x: Tensor) -> Tensor:
        """(B, width) from x₀ and x, both (B, width)."""
        return start * self.affine(x if self.projection is None else self.projection(x)) + x

    @property
    def kernel(self) -> Tensor:
        """W (width, width); entry (i, j) is the weight of x₀ᵢ · xⱼ in output i."""
        weight = self.affine.weight
        return weight if self.projection is None else weight @ self.projection.weight


class CrossNetwork(nn.ModuleList):
    """Cross layers one after the other; each multiplies with the input of the first."""

    def __init__(self, width: int, count: int, projection: int | None) -> None:
        super().__init__(Cross(width, projection) for _ in range(count))

    def forward(self, start: Tensor) -> Tensor:
        """(B, width) to (B, width)."""
        x = start
        for layer in self:
            x = layer(start, x)
        return x

    @torch.no_grad()
    def block_norms(self, sizes: list[int]) -> Tensor:
        """How strongly the first layer multiplies blocks of x₀ of these widths, one a feature: (P,
        P).

        A pair of features meets in two blocks of the kernel, W_ij and W_ji: this is the Frobenius
        norm of both together, where the paper draws that of each; on the diagonal is that of W_ii
        alone.
        """
        squares = cast(Cross, self[0]).kernel.square()
        blocks = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        member = F.one_hot(blocks, len(sizes)).to(squares)  # (width, P)
        sums = member.T @ squares @ member
        both = sums + sums.T
        both.diagonal().div_(2)
        return both.sqrt()


def dense_and(fields: Sequence[str] | None, data: Schema, model: str) -> Schema:
    """The schema of all dense columns and these fields, all if None; ValueError if none is left."""
    reads = data.select(dense=data.dense, fields=data.field_names if fields is None else fields)
    if not reads.dense and not reads.fields:
        raise ValueError(f"{model} has nothing to read: no dense columns, and no field is chosen")
    return reads


class DCN(Recommender, folds=True):
    """Cross layers x ← x₀ ⊙ (W x + b) + x over x₀ = [dense ; fields], and a deep tower.

    The numbers of x₀ are no neurons: every cross layer multiplies them and passes them on, so that
    none can be pruned exactly, however constant it is. That holds in either structure.

    Args:
        data: the columns of the batches; all of its dense columns are read.
        fields: the fields that are read; all of the data's if None.
        embedding: the width of a field's vector.
        cross_layers: how many; L layers hold all products of up to L + 1 inputs.
        projection_dim: the rank of W = U V; None is full rank.
        deep: the sizes of the deep tower's hidden layers; empty for a cross network alone.
        structure: stacked: the tower reads the last cross layer. parallel: it reads x₀, and the
            output reads both.
        activation: of the towers.
        dropout: the share of their activations that a training step drops.
        batch_norm: whether training normalises what the activations are of.
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
        activation: Activation = "relu",
        dropout: Dropout = 0.0,
        batch_norm: bool = False,
    ) -> None:
        neurons = activation, dropout, batch_norm
        reads = dense_and(fields, data, "DCN")
        super().__init__(data, reads, embedding)
        self.sizes = [1] * len(reads.dense) + [embedding] * len(reads.fields)
        width = sum(self.sizes)
        self.cross = CrossNetwork(width, cross_layers, projection_dim)
        self.tower = Tower([width], deep, *neurons) if deep else None
        self.parallel = structure == "parallel"
        crossed = [width] if self.parallel or not deep else []
        self.output = Output([*crossed, *tuple(deep)[-1:]], data.targets)
        if self.tower is not None:
            self.tower.last.register_consumer(self.output, len(crossed))
        nn.init.uniform_(self.table.weight, -START, START)

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


class DNN(Recommender, folds=True):
    """A ReLU tower over [dense ; fields], the reference that cross networks are compared with.

    Args:
        data: the columns of the batches; all of its dense columns are read.
        fields: the fields that are read; all of the data's if None.
        embedding: the width of a field's vector.
        hidden: the sizes of the hidden layers.
        activation: of the towers.
        dropout: the share of their activations that a training step drops.
        batch_norm: whether training normalises what the activations are of.
    """

    def __init__(
        self,
        data: Schema,
        fields: Sequence[str] | None = None,
        embedding: Annotated[int, Ge(1)] = 32,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] = (192, 192, 192),
        activation: Activation = "relu",
        dropout: Dropout = 0.0,
        batch_norm: bool = False,
    ) -> None:
        neurons = activation, dropout, batch_norm
        reads = dense_and(fields, data, "DNN")
        super().__init__(data, reads, embedding)
        self.embedding = Dimensions(reads.field_names, range(embedding))
        self.tower = Tower([len(reads.dense), self.embedding.size], hidden, *neurons)
        self.output = Output([hidden[-1]], data.targets)
        self.embedding.register_consumer(self.tower.first.affine, 1)
        self.tower.last.register_consumer(self.output)
        nn.init.uniform_(self.table.weight, -START, START)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        return self.output(self.tower(inputs.dense, self.embedding(inputs.fields)))

    def dimensions(self) -> Tensor:
        """Those that the tower reads."""
        return self.embedding.read

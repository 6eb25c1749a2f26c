"""The deep learning recommendation model (Naumov et al., 2019, arXiv:1906.00091)."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Annotated, cast

import torch
from annotated_types import Ge, MinLen
from pydantic import FilePath
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, LoadPart, Recommender
from glassrec.models.dlrm_checkpoint import checkpoint_sizes, load_checkpoint
from glassrec.models.embedding import JointTable
from glassrec.models.layers import (
    Activation,
    Affine,
    Consumer,
    Dropout,
    Output,
    PrunableLayer,
    Tower,
)


class DotInteraction(PrunableLayer, Consumer):
    """A dense vector, passed on, and the dot products of all pairs of vectors: [dense ; pairs].

    The vectors are the dense one and F fields, stacked dense first; the pairs are the strict lower
    triangle, row by row (row i, column j < i). With 27 vectors of 16 numbers these are
    16 + 351 = 367 neurons.

    All vectors are multiplied, in a folded copy those between the first and the last one of which a
    pair is left. To gather the vectors of each pair instead is faster below some 20 of 351 pairs,
    and up to 30 times as slow above.
    """

    columns: Tensor
    constants: Tensor
    _positions: Tensor

    def __init__(self, names: Sequence[str], width: int) -> None:
        super().__init__(width + len(names) * (len(names) - 1) // 2)
        self.names = tuple(names)
        self.width = width
        # The columns of the dense vector that still arrive, and the constants of the others.
        self.register_buffer("columns", torch.arange(width))
        self.register_buffer("constants", torch.zeros(width))
        # Where each pair is among the products of vectors.
        self.register_buffer("_positions", torch.empty(0, dtype=torch.long), persistent=False)
        self._index()
        self.register_load_state_dict_post_hook(_index_after_loading)

    def forward(self, dense: Tensor, fields: Tensor) -> Tensor:
        """(B, U) from a dense vector (B, columns) and fields (B, F, width)."""
        dense = self.widen(dense)
        vectors = torch.cat([dense.unsqueeze(1), fields], 1) if self._with_dense else fields
        products = torch.bmm(vectors[:, self._first :], vectors[:, : self._end].transpose(1, 2))
        pairs = products.flatten(1).index_select(1, self._positions)
        passed = len(self.units) - len(self._positions)
        if passed < self.width:
            dense = dense.index_select(1, self.units[:passed])
        return torch.cat([dense, pairs], 1)

    def widen(self, dense: Tensor) -> Tensor:
        """(B, width) from a dense vector (B, columns), with the constants of pruned columns."""
        if len(self.columns) == self.width:
            return dense
        constants = self.constants.to(dense.dtype).expand(dense.shape[0], -1)
        return constants.index_copy(1, self.columns, dense)

    def unfold(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values (B, U) of neurons as those of the dense vector (B, width) and of all pairs, in
        both orders (B, 1 + F, 1 + F); 0 for pruned neurons.
        """
        whole = values.new_zeros(len(values), self.size).index_copy(1, self.units, values)
        count = len(self.names)
        rows, columns = torch.tril_indices(count, count, -1, device=values.device)
        pairs = values.new_zeros(len(values), count, count)
        pairs[:, rows, columns] = pairs[:, columns, rows] = whole[:, self.width :]
        return whole[:, : self.width], pairs

    @property
    def multiplied(self) -> Tensor:
        """(1 + F,) bool: of which vectors a pair is left, the dense one first."""
        none = torch.zeros(len(self.names), dtype=torch.bool, device=self.units.device)
        return none.index_fill(0, self._pairs().flatten(), True)

    def neuron_names(self, layer: str) -> list[str]:
        """`dense[3]`, and the two vectors of each pair, the one stacked first named first."""
        passed = self.units[self.units < self.width]
        return [
            *(f"{self.names[0]}[{column}]" for column in passed.tolist()),
            *(f"{self.names[j]}×{self.names[i]}" for i, j in self._pairs().T.tolist()),
        ]

    def _pairs(self) -> Tensor:
        """(2, pairs left): the row and the column of each."""
        count = len(self.names)
        pairs = torch.tril_indices(count, count, -1, device=self.units.device)
        return pairs[:, self.units[self.units >= self.width] - self.width]

    def _index(self, stored: Tensor | None = None) -> None:
        """Find the pairs among the products of all vectors, or of the fields (F,) `stored`."""
        pairs, self._with_dense = self._pairs(), True
        self._first, self._end = 0, len(self.names)
        if stored is not None:
            there = torch.cat([self.multiplied[:1], stored])
            rows, columns = pairs = (there.cumsum(0) - 1)[pairs]
            self._with_dense = bool(there[0])
            self._first = int(rows.min()) if len(rows) else 0
            self._end = int(columns.max()) + 1 if len(rows) else 0
        self._positions = (pairs[0] - self._first) * self._end + pairs[1]

    def fold(self, table: JointTable) -> None:
        """Pass the whole dense vector on, and multiply vectors as the `table` stores them."""
        passed = self.units < self.width
        every = torch.arange(self.width + int((~passed).sum()), device=self.units.device)
        places = torch.cat([self.units[passed], every[self.width :]])
        for consumer, part in self._consumers:
            cast(Affine, consumer).spread_inputs(part, places, len(every))
        self.units = torch.cat([every[: self.width], self.units[~passed]])
        self._index(table.read.any(1))

    def _keep(self, kept: Tensor) -> None:
        self._index()

    def reads(self, part: int) -> Tensor:
        """(columns,): all that arrive if a pair of the dense vector is left, or those passed on."""
        return torch.isin(self.columns, self.units) | self.multiplied[0]

    @torch.no_grad()
    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """Read only the `kept` columns of the dense vector; go on multiplying the constants of the
        others, which no neuron computes any more.
        """
        assert part == 0, "only the dense vector can be narrowed"
        stored = self.constants.index_copy(0, self.columns, constants.to(self.constants))
        self.columns = self.columns[kept].clone()
        self.constants = stored.index_fill(0, self.columns, 0)


def _index_after_loading(layer: DotInteraction, _: object) -> None:
    layer._index()


class DLRM(Recommender, folds=True):
    """A bottom tower over the dense columns, dot products of all pairs of vectors, a top tower.

    The top tower reads [dense vector ; pairs]. The defaults are the sizes of the published
    configuration for Criteo: bottom 13-512-256-64-16, 27 vectors of 16, top 367-512-256-1.

    Args:
        data: the columns of the batches; all of its dense columns and fields are read.
        embedding: the width of the vectors that interact.
        bottom: the sizes of the bottom tower's hidden layers below the dense vector, which is
            itself a ReLU layer of `embedding` neurons.
        top: the sizes of the top tower's hidden layers.
        weights: a checkpoint of facebookresearch/dlrm to start from; all sizes are its own then.
        activation: of the towers.
        dropout: the share of their activations that a training step drops.
        batch_norm: whether training normalises what the activations are of.
    """

    def __init__(
        self,
        data: Schema,
        embedding: Annotated[int, Ge(1)] = 16,
        bottom: Sequence[Annotated[int, Ge(1)]] = (512, 256, 64),
        top: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] = (512, 256),
        weights: FilePath | None = None,
        activation: Activation = "relu",
        dropout: Dropout = 0.0,
        batch_norm: bool = False,
    ) -> None:
        neurons = activation, dropout, batch_norm
        if not data.dense or not data.fields:
            raise ValueError(
                f"DLRM needs dense columns and categorical fields, and the data has "
                f"{len(data.dense)} and {len(data.fields)}; take another model or other data"
            )
        if weights is not None:
            embedding, bottom, top = checkpoint_sizes(Path(weights))
        super().__init__(data, data.select(dense=data.dense, fields=data.field_names), embedding)
        self._weights, self.rectified = weights, activation == "relu"
        self.bottom = Tower([len(data.dense)], [*bottom, embedding], *neurons)
        self.interaction = DotInteraction(["dense", *data.field_names], embedding)
        self.top = Tower([self.interaction.size], top, *neurons)
        self.output = Output([top[-1]], data.targets)
        self.bottom.last.register_consumer(self.interaction)
        self.interaction.register_consumer(self.top.first.affine)
        self.top.last.register_consumer(self.output)
        self._initialise()

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        dense = self.bottom(inputs.dense)
        return self.output(self.top(self.interaction(dense, inputs.fields)))

    def take_over(self, load: LoadPart) -> bool:
        """Start from the checkpoint, if there is one."""
        if self._weights is not None:
            load_checkpoint(self, Path(self._weights))
        return self._weights is not None

    def dimensions(self) -> Tensor:
        """All of a field as long as one of its pairs is left: products need whole vectors."""
        return self.interaction.multiplied[1:].unsqueeze(1).expand(-1, self.width)

    def fold(self) -> None:
        """The bottom tower gives the constants of the dense vector, too."""
        pairs = self.interaction
        narrow = len(pairs.columns) < pairs.width
        if narrow and self.rectified and (pairs.constants >= 0).all():  # ReLU keeps them
            self.bottom.last.affine.spread_outputs(pairs.constants, pairs.columns)
            pairs.columns = torch.arange(pairs.width, device=self.device)
        super().fold()

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

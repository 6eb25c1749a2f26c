"""Layers with the same neurons at each step of a sequence: attention, and hidden layers."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassrec.models.embedding import JointTable
from glassrec.models.layers.affine import Affine
from glassrec.models.layers.prunable import PrunableLayer
from glassrec.models.layers.tower import Hidden


class Stepwise(PrunableLayer):
    """A layer with activations (B, T, U): those at each step (B, U), in which all take part."""

    parallel = True

    def __init__(self, *sizes: Any) -> None:
        super().__init__(*sizes)
        self.emission = nn.Identity()

    @property
    def activation_module(self) -> nn.Module:
        """It is called once a step in evaluation mode."""
        return self.emission

    def emit(self, x: Tensor) -> Tensor:
        """The activations (B, T, U), as they are."""
        if self.training:
            return x
        return torch.stack([self.emission(step) for step in x.unbind(1)], 1)


class StepwiseHidden(Stepwise, Hidden):
    """A hidden layer at each step."""

    def forward(self, *parts: Tensor) -> Tensor:
        """(B, T, E) to (B, T, U)."""
        return self.emit(super().forward(*parts))


class Attention(Stepwise):
    """Multi-head attention (Vaswani et al., NeurIPS 2017) up to the concatenated heads.

    A neuron is a number that a head gives. A head without any is pruned with its queries and keys.
    """

    heads: Tensor  # (H,) int64: those that are left

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        if width % heads:
            raise ValueError(f"model.heads: {heads} do not divide model.embedding, {width}")
        super().__init__(width)
        self.width, self.dropout = width // heads, dropout
        self.register_buffer("heads", torch.arange(heads))
        self.query, self.key, self.value = (Affine([width], width) for _ in range(3))

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """(B, Q, U): queries (B, Q, E) read keys (B, T, E) where the mask (B, 1, Q, T) is true."""
        values, places = self.value(keys), self._places()
        if places is not None:
            wide = values.new_zeros(*values.shape[:2], len(self.query.bias))
            values = wide.index_copy(2, places, values)
        found = self._read(queries, keys, values, mask).flatten(2)
        return self.emit(found if places is None else found.index_select(2, places))

    def weights(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """(B, Q, H, T): how much each query reads of each key."""
        each = torch.eye(keys.shape[1]).to(keys).repeat(len(keys), 1, len(self.heads))
        return self._read(queries, keys, each, mask)

    def incoming_weights(self) -> list[Tensor]:
        """The rows of the values, as columns (E, U)."""
        return [self.value.weight.T]

    def fold(self, table: JointTable) -> None:
        """Give zeros beside the neurons, so that all heads are equally wide."""
        if (places := self._places()) is not None:
            self.units = torch.arange(len(self.query.bias), device=places.device)
            self.value.spread_outputs(torch.zeros_like(self.units), places)
            for consumer, part in self._consumers:
                cast(Affine, consumer).spread_inputs(part, places, len(self.units))

    def _read(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        each = (self.query(queries), self.key(keys), values)
        q, k, v = (x.unflatten(2, (len(self.heads), -1)).transpose(1, 2) for x in each)
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, mask, dropout).transpose(1, 2)

    def _places(self) -> Tensor | None:
        """The place of each neuron beside those that are pruned, in the heads that are left."""
        if len(self.units) == len(self.query.bias):
            return None
        head = torch.searchsorted(self.heads, self.units // self.width)
        return head * self.width + self.units % self.width

    def _keep(self, kept: Tensor) -> None:
        left = torch.isin(self.heads, self.units // self.width)
        rows = left.repeat_interleave(self.width).nonzero().flatten()
        self.heads = self.heads[left].clone()
        for affine, outputs in ((self.value, kept), (self.query, rows), (self.key, rows)):
            affine.keep_outputs(outputs)

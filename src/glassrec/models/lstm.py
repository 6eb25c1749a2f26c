"""A recurrent network over the user's history, as in GRU4Rec (Hidasi et al., ICLR 2016).

It judges one candidate at a time, as a click model does, so that the score has one logit and its
explanation says which of the past interactions drove it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import Dimensions, Output, Tower
from glassrec.models.recurrent import Recurrent


class LSTM(Recommender):
    """The last state over the history, beside the candidate, through a ReLU tower to the logit.

    An item has one embedding, as a candidate and as a step of the history.

    Args:
        data: the columns of the batches.
        embedding: the width of the embeddings.
        hidden: the units of the recurrent layer.
        cell: long short-term memory, or a gated recurrent unit.
        tower: the sizes of the tower's hidden layers.
        reads: what is read beside the history: the columns that follow from the candidate item, or
            all fields and dense columns.
    """

    def __init__(
        self,
        data: Schema,
        embedding: Annotated[int, Ge(1)] = 32,
        hidden: Annotated[int, Ge(1)] = 32,
        cell: Literal["lstm", "gru"] = "lstm",
        tower: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] = (32,),
        reads: Literal["item", "all"] = "item",
    ) -> None:
        super().__init__(data, _read(data, everything=reads == "all"), embedding)
        self.recurrent = Recurrent(embedding, hidden, cell)
        self.embedding = Dimensions(self.schema.field_names, range(embedding))
        self.tower = Tower([hidden, len(self.schema.dense), self.embedding.size], tower)
        self.output = Output([tower[-1]], data.targets)
        self.recurrent.register_consumer(self.tower.first.affine, 0)
        self.embedding.register_consumer(self.tower.first.affine, 2)
        self.tower.last.register_consumer(self.output)
        nn.init.normal_(self.table.weight, std=0.1)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        state = self.recurrent(inputs.history, inputs.steps)
        return self.output(self.tower(state, inputs.dense, self.embedding(inputs.fields)))

    def dimensions(self) -> Tensor:
        """Those that the tower reads, and all of the item, which the history reads."""
        item = torch.tensor([name == self.schema.item for name in self.schema.field_names])
        return self.embedding.read | item.to(self.device).unsqueeze(1)


def _read(data: Schema, *, everything: bool) -> Schema:
    """The schema of a model of a history; ValueError if the data has none."""
    if not data.history_length:
        raise ValueError(
            "LSTM needs a history of items, and the data has none; set data.history=20 (ncf, "
            "movielens_100k, movielens_1m and table have it), or take another model"
        )
    if everything:
        return data.select(dense=data.dense, fields=data.field_names, history=True)
    return data.select(dense=data.item_dense, fields=data.item_side, history=True)

"""Two towers, several tasks: retrieval by a dot product, ratings and clicks by a joint head.

The towers are those of neural retrieval (Yi et al., Sampling-Bias-Corrected Neural Modeling for
Large Corpus Item Recommendations, RecSys 2019); the head lets one pair of towers learn from both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs
from glassrec.models.layers import (
    Activation,
    Affine,
    Dimensions,
    Dropout,
    Output,
    Product,
    Total,
    Tower,
)
from glassrec.models.retriever import Retriever

DEVIATION = 0.05
"""The standard deviation of the first embeddings. At PyTorch's 1 the dot products start so far
apart that the softmax over items learns little else than to undo them."""


class TwoTower(Retriever, folds=True):
    """A query tower over the user's side, a candidate tower over the item's, and their joint head.

    A retrieval logit is `query · candidate`; clicks and ratings have a tower over both vectors. A
    tower is hidden layers and an affine map to its vector. Head and dot product are built only if
    the data has a task for them.

    Args:
        data: the columns of the batches; all of its dense columns and fields are read. Those that
            follow from the item are the candidate's, all others the query's.
        embedding: the width of each field's vector, and of query and candidate.
        towers: the sizes of the hidden layers of either tower.
        head: the sizes of the hidden layers over both vectors.
        activation: of the towers.
        dropout: the share of their activations that a training step drops.
        batch_norm: whether training normalises what the activations are of.
    """

    _task_order: Tensor

    def __init__(
        self,
        data: Schema,
        embedding: Annotated[int, Ge(1)] = 32,
        towers: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] = (64,),
        head: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] = (64, 32),
        activation: Activation = "relu",
        dropout: Dropout = 0.0,
        batch_norm: bool = False,
    ) -> None:
        neurons = activation, dropout, batch_norm
        users, moment = _users_side(data)
        reads = data.select(dense=[*moment, *data.item_dense], fields=[*users, *data.item_side])
        super().__init__(data, reads, embedding)
        self.users, self.moment = len(users), len(moment)
        beside = [len(data.item_dense)] if data.item_dense else []
        self.query_embedding = Dimensions(users, range(embedding))
        self.query_tower = Tower([self.moment, self.query_embedding.size], towers, *neurons)
        self.candidate_embedding = Dimensions(data.item_side, range(embedding))
        self.candidate_tower = Tower([*beside, self.candidate_embedding.size], towers, *neurons)
        self.to_query = Affine([towers[-1]], embedding)
        self.to_candidate = Affine([towers[-1]], embedding)
        self.query_embedding.register_consumer(self.query_tower.first.affine, 1)
        self.candidate_embedding.register_consumer(self.candidate_tower.first.affine, len(beside))
        self.query_tower.last.register_consumer(self.to_query)
        self.candidate_tower.last.register_consumer(self.to_candidate)
        self.retrieved = [target for target in data.targets if target.kind == "retrieval"]
        self.judged = [target for target in data.targets if target.kind != "retrieval"]
        if self.judged:
            self.head = Tower([embedding, embedding], head, *neurons)
            self.output = Output([head[-1]], self.judged)
            self.head.last.register_consumer(self.output)
        if self.retrieved:
            self.product = Product(embedding)
            self.total = Total(self.retrieved)
            self.product.register_consumer(self.total)
        # The head's columns come first; this is where each task's column is.
        columns = [data.targets.index(target) for target in (*self.judged, *self.retrieved)]
        self.register_buffer("_task_order", torch.tensor(columns).argsort(), persistent=False)
        nn.init.normal_(self.table.weight, std=DEVIATION)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        query, candidate = self._query(inputs), self._candidate(inputs)
        logits = []
        if self.judged:
            logits.append(self.output(self.head(query, candidate)))
        if self.retrieved:
            logits.append(self.total(self.product(query, candidate)))
        return torch.cat(logits, 1).index_select(1, self._task_order)

    def dimensions(self) -> Tensor:
        """Those that either tower reads."""
        return torch.cat([self.query_embedding.read, self.candidate_embedding.read])

    def fold(self) -> None:
        """Fewer fields of the user may be stored, and a head reads numbers that are not added."""
        self.users = int(self.table.read[: self.users].any(1).sum())
        if self.retrieved and len(self.product.units) < self.product.size:
            if self.judged:
                mask = self.product.remaining.to(self.total.bias)
                self.total.mask = mask.repeat(len(self.retrieved), 1)
            else:
                self.to_query.keep_outputs(self.product.units)
                self.to_candidate.keep_outputs(self.product.units)
        super().fold()

    def query(self, inputs: Inputs) -> Tensor:
        """(B, U), of the dimensions that are not pruned; the data has a retrieval task."""
        return self.product.read(self._query(inputs))

    def candidate(self, inputs: Inputs) -> Tensor:
        """(B, U), likewise."""
        return self.product.read(self._candidate(inputs))

    def _query(self, inputs: Inputs) -> Tensor:
        fields = self.query_embedding(inputs.fields[:, : self.users])
        return self.to_query(self.query_tower(inputs.dense[:, : self.moment], fields))

    def _candidate(self, inputs: Inputs) -> Tensor:
        fields = self.candidate_embedding(inputs.fields[:, self.users :])
        dense = inputs.dense[:, self.moment :]
        return self.to_candidate(self.candidate_tower(*([dense] if dense.shape[1] else []), fields))


def _users_side(data: Schema) -> tuple[list[str], list[str]]:
    users = [name for name in data.field_names if name not in data.item_side]
    dense = [name for name in data.dense if name not in data.item_dense]
    if not data.item_side or not (users or dense):
        raise ValueError(
            f"TwoTower needs columns of the item's side and others, and the data has "
            f"{len(data.item_side)} and {len(users) + len(dense)}; take another model "
            "(dlrm) or other data"
        )
    return users, dense

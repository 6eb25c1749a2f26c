"""Many items scored for one user, whose side is computed once.

The columns that follow from the item (`Schema.item_side`, `Schema.item_dense`) are its side; all
others, and the history, are the user's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.models.base import Inputs, Recommender
from glassrec.models.dlrm import DLRM


class ItemScorer:
    """The logits of n encoded items for one user. Items are looked up once, when it is built."""

    @torch.no_grad()
    def __init__(self, model: Recommender, items: Batch) -> None:
        self.model, schema = model, model.schema
        self.fields = [schema.field_index(name) for name in schema.item_side]
        self.dense = [schema.dense.index(name) for name in schema.item_dense]
        inputs = model.embed(items._replace(history=items.history[:, :0]))
        self.vectors, self.numbers = inputs.fields[:, self.fields], inputs.dense[:, self.dense]

    def inputs(self, user: Inputs, places: Tensor) -> Inputs:
        """N embedded rows: one user (1 row) beside the items at `places` (N,)."""
        dense, fields, *past = (part.expand(len(places), *part.shape[1:]) for part in user)
        dense, fields = dense.clone(), fields.clone()
        dense[:, self.dense] = self.numbers.index_select(0, places)
        fields[:, self.fields] = self.vectors.index_select(0, places)
        return Inputs(dense, fields, *past)

    def logits(self, user: Inputs, places: Tensor) -> Tensor:
        """The logits (N, K) of the items at `places` (N,) for one user (1 row)."""
        return self.model.task_logits(self.inputs(user, places))


class DLRMItemScorer(ItemScorer):
    """The same of a DLRM whose numbers are all the user's, with fewer operations.

    The first layer of the top tower is linear in the dense vector and in the dot products of pairs.
    Pairs within one side are a constant of the user or of the item. Those across are linear in the
    item's vectors, by weights that are made once a user: Σ_ij w_ij ⟨u_i, v_j⟩ = Σ_j ⟨Σ_i w_ij u_i,
    v_j⟩. An item takes F'·E + H numbers of memory, for F' fields of its side and H neurons of the
    first layer. The logits are the model's up to rounding.
    """

    @torch.no_grad()
    def __init__(self, model: DLRM, items: Batch) -> None:
        super().__init__(model, items)
        self.dlrm, interaction, affine = model, model.interaction, model.top.first.affine
        self.dense_weight, pairs = interaction.unfold(affine.weight)
        item = [1 + field for field in self.fields]  # the dense vector is the first one
        user = [vector for vector in range(pairs.shape[1]) if vector not in item]
        self.user_fields = [vector - 1 for vector in user[1:]]
        # A product of two vectors of one side is there twice.
        self.within_user = pairs[:, user][:, :, user].flatten(1) / 2
        self.across = pairs[:, item][:, :, user].flatten(0, 1).contiguous()
        within_item = pairs[:, item][:, :, item].flatten(1) / 2
        self.constants = (self.vectors @ self.vectors.mT).flatten(1) @ within_item.T + affine.bias

    def logits(self, user: Inputs, places: Tensor) -> Tensor:
        """As of any model."""
        model = self.dlrm
        dense = model.interaction.widen(model.bottom(user.dense))
        vectors = torch.cat([dense, *user.fields[0, self.user_fields].unsqueeze(1)])
        products = (vectors @ vectors.T).flatten()
        constant = self.dense_weight @ dense[0] + self.within_user @ products
        weights = (self.across @ vectors).view(len(constant), -1)
        own = self.constants.index_select(0, places).add_(constant)
        items = self.vectors.index_select(0, places).flatten(1)
        hidden = torch.addmm(own, items, weights.T).relu_()
        for layer in [*model.top][1:]:
            hidden = layer(hidden)
        return model.target_scale(model.output(hidden))

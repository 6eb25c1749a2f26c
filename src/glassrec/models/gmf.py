"""Generalised matrix factorisation (He et al., Neural Collaborative Filtering, WWW 2017)."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import Output, Product


def user_and_item(data: Schema, model: str) -> Schema:
    """The schema of a model of a user and an item; ValueError if the data names none."""
    if data.user is None or data.item is None:
        raise ValueError(
            f"{model} needs a user and an item column, and the data names "
            f"user={data.user}, item={data.item}; take another model (dlrm) or other data"
        )
    return data.select(fields=[data.user, data.item])


class GMF(Recommender):
    """logit = h · (p_user ⊙ q_item) + b, with `factors` dimensions."""

    def __init__(self, data: Schema, factors: Annotated[int, Ge(1)] = 8) -> None:
        super().__init__(data, user_and_item(data, "GMF"), factors)
        self.product = Product(factors)
        self.output = Output([factors], data.targets)
        self.product.register_consumer(self.output)
        nn.init.normal_(self.table.weight, std=0.01)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        user, item = inputs.fields.unbind(1)
        return self.output(self.product(user, item))

    def dimensions(self) -> Tensor:
        """A dimension that is no longer multiplied is read of neither side."""
        return self.product.remaining.expand(2, -1)

"""Matrix factorisation with biases (Koren, Bell and Volinsky, IEEE Computer 2009).

Well tuned it does better than neural networks that were compared with it (Rendle, Krichene, Zhang
and Anderson, RecSys 2020), so it belongs in every table.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs
from glassrec.models.layers import Product, Total
from glassrec.models.ncf import user_and_item
from glassrec.models.retriever import Retriever


class MF(Retriever, folds=True):
    """logit = b + b_user + b_item + p_user · q_item.

    A row of the joint table holds an id's factors, then its bias.

    Args:
        data: the columns of the batches.
        factors: the dimensions of p and q.
        deviation: the standard deviation of the first factors; biases start at zero.
    """

    def __init__(
        self,
        data: Schema,
        factors: Annotated[int, Ge(1)] = 8,
        deviation: Annotated[float, Gt(0)] = 0.1,
    ) -> None:
        super().__init__(data, user_and_item(data, "MF"), factors + 1)
        self.product = Product(factors)
        self.output = Total(data.targets)
        self.product.register_consumer(self.output)
        nn.init.normal_(self.table.weight, std=deviation)
        nn.init.zeros_(self.table.weight[:, -1:].data)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K); tasks differ by b alone."""
        user, item = inputs.fields.unbind(1)
        biases = user[:, -1:] + item[:, -1:]
        return self.output(self.product(user[:, :-1], item[:, :-1])) + biases

    def dimensions(self) -> Tensor:
        """The factors that are still multiplied, and the biases."""
        return nn.functional.pad(self.product.remaining, (0, 1), value=True).expand(2, -1)

    def query(self, inputs: Inputs) -> Tensor:
        """(B, U + 2): the user's factors, and the places of both biases."""
        user = inputs.fields[:, 0]
        bias = user[:, -1:]
        return torch.cat([self.product.read(user[:, :-1]), bias, torch.ones_like(bias)], 1)

    def candidate(self, inputs: Inputs) -> Tensor:
        """(B, U + 2), likewise of the item."""
        item = inputs.fields[:, 1]
        bias = item[:, -1:]
        return torch.cat([self.product.read(item[:, :-1]), torch.ones_like(bias), bias], 1)

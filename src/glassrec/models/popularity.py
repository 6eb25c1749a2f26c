"""Popularity: the baseline that every recommender has to beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs
from glassrec.models.layers import task_biases
from glassrec.models.retriever import Retriever


class Popularity(Retriever):
    """logit = b_item: the same for every user, the item's log-odds in the training rows.

    Trained against negatives drawn uniformly, or as a retriever, it ranks items by how often they
    were chosen; trained on ratings or on labels it is the item's mean. It has no neurons.
    """

    def __init__(self, data: Schema) -> None:
        if data.item is None:
            raise ValueError("Popularity needs an item column, and the data names none")
        super().__init__(data, data.select(fields=[data.item]), 1)
        self.bias = task_biases(data.targets)
        nn.init.zeros_(self.table.weight)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K); tasks differ by one bias each."""
        return inputs.fields[:, 0] + self.bias

    def query(self, inputs: Inputs) -> Tensor:
        """(B, 1): one for every user."""
        return torch.ones_like(inputs.fields[:, 0])

    def candidate(self, inputs: Inputs) -> Tensor:
        """(B, 1): the item's log-odds."""
        return inputs.fields[:, 0]

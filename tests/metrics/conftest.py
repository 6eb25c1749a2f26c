"""Models that give the logits that they are made with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.dataset import Dataset, Split
from glassrec.data.schema import Field, Schema, Target
from glassrec.metrics.model_pair import ModelPair
from glassrec.models.base import Inputs, Recommender


class Fixed(Recommender):
    """Gives the logits (N, K) that it is made with, row by row."""

    def __init__(self, data: Schema, logits: Tensor) -> None:
        super().__init__(data, data.select(fields=["row"]), logits.shape[1])
        self.table.weight.data.copy_(logits)

    def score(self, inputs: Inputs) -> Tensor:
        return inputs.fields[:, 0]


@pytest.fixture
def pair_of() -> Callable[..., ModelPair]:
    """Two models with these logits (N, K) on rows of these targets, maybe of lists or of users."""

    def make(
        before: object,
        after: object,
        truth: object,
        *targets: Target,
        query: Tensor | None = None,
        users: Tensor | None = None,
    ) -> ModelPair:
        large, small, targets_of_rows = (
            torch.as_tensor(values).float().reshape(len(values), -1)
            for values in (before, after, truth)
        )
        count = len(large)
        who = torch.zeros(count, dtype=torch.long) if users is None else users
        fields = (Field("row", count), Field("user", int(who.max()) + 1))
        schema = Schema(
            (), fields, targets or (Target("label"),), None if users is None else "user"
        )
        ids = torch.stack([torch.arange(count), count + who], 1)
        batch = Batch(torch.zeros(count, 0), ids, ids[:, :0], targets_of_rows)
        split = Split(batch, query)
        data = Dataset(schema, split, split, split)
        return ModelPair(Fixed(schema, large), Fixed(schema, small), data, "test")

    return make

"""The multi-layer perceptron of Neural Collaborative Filtering (He et al., WWW 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, MinLen
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.gmf import user_and_item
from glassrec.models.layers import Dimensions, Output, Tower


def halving(factors: int) -> tuple[int, int, int]:
    """The paper's tower over `factors` predictive factors: each layer half of the one below."""
    return 4 * factors, 2 * factors, factors


class MLP(Recommender):
    """A ReLU tower over the user's and the item's embedding, side by side.

    Args:
        data: the columns of the batches.
        factors: the size of the last hidden layer, where `hidden` is not given.
        hidden: the sizes of the hidden layers; 4, 2 and 1 times `factors` if None. Each embedding
            is as wide as the first hidden layer, so that it halves its input as the others do.
    """

    def __init__(
        self,
        data: Schema,
        factors: Annotated[int, Ge(1)] = 8,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] | None = None,
    ) -> None:
        sizes = hidden or halving(factors)
        super().__init__(data, user_and_item(data, "MLP"), sizes[0])
        self.embedding = Dimensions(self.schema.field_names, range(self.width))
        self.tower = Tower([self.embedding.size], sizes)
        self.output = Output([sizes[-1]], data.targets)
        self.embedding.register_consumer(self.tower.first.affine)
        self.tower.last.register_consumer(self.output)
        nn.init.normal_(self.table.weight, std=0.01)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        return self.output(self.tower(self.embedding(inputs.fields)))

    def dimensions(self) -> Tensor:
        """Those that the tower reads."""
        return self.embedding.read

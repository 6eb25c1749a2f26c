"""Neural collaborative filtering (He et al., WWW 2017): GMF, MLP, and both joined as NeuMF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge, Interval, MinLen
from pydantic import DirectoryPath
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, LoadPart, Recommender
from glassrec.models.layers import Activation, Dimensions, Dropout, Output, Product, Tower

DEVIATION = 0.01
"""The standard deviation of the first embeddings."""


def user_and_item(data: Schema, model: str) -> Schema:
    """The schema of a model of a user and an item; ValueError if the data names none."""
    if data.user is None or data.item is None:
        raise ValueError(
            f"{model} needs a user and an item column, and the data names "
            f"user={data.user}, item={data.item}; take another model (dlrm) or other data"
        )
    return data.select(fields=[data.user, data.item])


class GMF(Recommender, folds=True):
    """Generalised matrix factorisation, h · (p_user ⊙ q_item) + b, with `factors` dimensions."""

    def __init__(self, data: Schema, factors: Annotated[int, Ge(1)] = 8) -> None:
        super().__init__(data, user_and_item(data, "GMF"), factors)
        self.product = Product(factors)
        self.output = Output([factors], data.targets)
        self.product.register_consumer(self.output)
        nn.init.normal_(self.table.weight, std=DEVIATION)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        user, item = inputs.fields.unbind(1)
        return self.output(self.product(user, item))

    def dimensions(self) -> Tensor:
        """A dimension that is no longer multiplied is read of neither side."""
        return self.product.remaining.expand(2, -1)


def halving(factors: int) -> tuple[int, int, int]:
    """The paper's tower over `factors` predictive factors: each layer half of the one below."""
    return 4 * factors, 2 * factors, factors


class MLP(Recommender, folds=True):
    """A ReLU tower over the user's and the item's embedding, side by side.

    Args:
        data: the columns of the batches.
        factors: the size of the last hidden layer, where `hidden` is not given.
        hidden: the sizes of the hidden layers; 4, 2 and 1 times `factors` if None. Each embedding
            is as wide as the first hidden layer, so that it halves its input as the others do.
        activation: of the towers.
        dropout: the share of their activations that a training step drops.
        batch_norm: whether training normalises what the activations are of.
    """

    def __init__(
        self,
        data: Schema,
        factors: Annotated[int, Ge(1)] = 8,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] | None = None,
        activation: Activation = "relu",
        dropout: Dropout = 0.0,
        batch_norm: bool = False,
    ) -> None:
        neurons = activation, dropout, batch_norm
        sizes = hidden or halving(factors)
        super().__init__(data, user_and_item(data, "MLP"), sizes[0])
        self.embedding = Dimensions(self.schema.field_names, range(self.width))
        self.tower = Tower([self.embedding.size], sizes, *neurons)
        self.output = Output([sizes[-1]], data.targets)
        self.embedding.register_consumer(self.tower.first.affine)
        self.tower.last.register_consumer(self.output)
        nn.init.normal_(self.table.weight, std=DEVIATION)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        return self.output(self.tower(self.embedding(inputs.fields)))

    def dimensions(self) -> Tensor:
        """Those that the tower reads."""
        return self.embedding.read


@dataclass(frozen=True)
class Pretrained:
    """Two finished runs to start from, as in the paper's section 3.4.1; both or none.

    Args:
        gmf: the run directory of a GMF with the same factors on the same data.
        mlp: the run directory of an MLP with the same hidden layers.
        alpha: the share of the GMF in the joint output layer.
    """

    gmf: DirectoryPath | None = None
    mlp: DirectoryPath | None = None
    alpha: Annotated[float, Interval(ge=0, le=1)] = 0.5

    def __post_init__(self) -> None:
        if (self.gmf is None) != (self.mlp is None):
            missing = "gmf" if self.gmf is None else "mlp"
            raise ValueError(
                f"pre-training needs both runs; model.pretrained.{missing} is not given"
            )


class NeuMF(Recommender, folds=True):
    """GMF and an MLP with embeddings of their own, joined in the output layer.

    A row of the joint table holds a field's GMF embedding, then its MLP embedding.

    Args:
        data: the columns of the batches.
        factors: the size of the GMF part and, where `hidden` is not given, of the MLP's last layer.
        hidden: the sizes of the MLP's hidden layers; 4, 2 and 1 times `factors` if None.
        pretrained: the runs of a GMF and an MLP from whose weights training starts, see
            `take_over`; None starts from scratch.
        activation: of the towers.
        dropout: the share of their activations that a training step drops.
        batch_norm: whether training normalises what the activations are of.
    """

    def __init__(
        self,
        data: Schema,
        factors: Annotated[int, Ge(1)] = 8,
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] | None = None,
        pretrained: Pretrained | None = None,
        activation: Activation = "relu",
        dropout: Dropout = 0.0,
        batch_norm: bool = False,
    ) -> None:
        neurons = activation, dropout, batch_norm
        sizes = hidden or halving(factors)
        super().__init__(data, user_and_item(data, "NeuMF"), factors + sizes[0])
        self.factors = factors
        self.product = Product(factors)
        self.embedding = Dimensions(self.schema.field_names, range(factors, self.width))
        self.tower = Tower([self.embedding.size], sizes, *neurons)
        self.output = Output([factors, sizes[-1]], data.targets)
        self.product.register_consumer(self.output, 0)
        self.embedding.register_consumer(self.tower.first.affine)
        self.tower.last.register_consumer(self.output, 1)
        nn.init.normal_(self.table.weight, std=DEVIATION)
        self._parts = partial(GMF, data, factors), partial(MLP, data, factors, hidden, activation)
        self._pretrained = pretrained

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        factors, hidden = inputs.fields.tensor_split([self.product.size], dim=2)
        return self.output(self.product(*factors.unbind(1)), self.tower(self.embedding(hidden)))

    def dimensions(self) -> Tensor:
        """The factors that are still multiplied, and those that the tower reads."""
        return torch.cat([self.product.remaining.expand(2, -1), self.embedding.read], 1)

    def take_over(self, load: LoadPart) -> bool:
        """Join the GMF and the MLP of `pretrained`."""
        pretrained = self._pretrained
        if pretrained is None or pretrained.gmf is None or pretrained.mlp is None:
            return False
        gmf, mlp = self._parts[0](), self._parts[1]()
        load(gmf, pretrained.gmf)
        load(mlp, pretrained.mlp)
        self.join(gmf, mlp, pretrained.alpha)
        return True

    @torch.no_grad()
    def join(self, gmf: GMF, mlp: MLP, alpha: float) -> None:
        """Take over the weights of both, so that the estimate is α that of GMF + (1 − α) of MLP.

        That is h = [α h_GMF; (1 − α) h_MLP], and the bias likewise, of parts with the same scale of
        their ratings. The joint model keeps the GMF's scale, so the output of an MLP with another
        mean and deviation is converted into it first.
        """
        self.table.weight.copy_(torch.cat([gmf.table.weight, mlp.table.weight], 1))
        self.tower.load_state_dict(mlp.tower.state_dict())
        self.target_scale.load_state_dict(gmf.target_scale.state_dict())
        factor, shift = gmf.target_scale.conversion_from(mlp.target_scale)
        weight, bias = factor.unsqueeze(1) * mlp.output.weight, factor * mlp.output.bias + shift
        self.output.weight.copy_(torch.cat([alpha * gmf.output.weight, (1 - alpha) * weight], 1))
        self.output.bias.copy_(alpha * gmf.output.bias + (1 - alpha) * bias)

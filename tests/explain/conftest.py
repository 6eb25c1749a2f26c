"""A model whose every attribution is known by formula, and methods that are right or wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.explain.evaluation.faithfulness import Sample
from glassrec.explain.masking import FeatureMask, MaskedModel
from glassrec.explain.methods import Method
from glassrec.models.base import Inputs, Recommender


class Linear(Recommender):
    """w · x + b of the dense columns, in float64."""

    def __init__(self, weights: Tensor) -> None:
        columns = Schema(tuple(f"I{place}" for place in range(len(weights))))
        super().__init__(columns, columns, 1)
        self.output = nn.Linear(len(weights), 1).double()
        self.output.weight.data[0] = weights

    def score(self, inputs: Inputs) -> Tensor:
        return self.output(inputs.dense)


@dataclass(frozen=True)
class Arbitrary(Method):
    """Normal numbers, whatever the model: right by chance only."""

    sampled: ClassVar[bool] = True

    name = "arbitrary"

    def evaluations(self, features: int) -> int:
        return 1

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        found = [torch.Generator().manual_seed(seed * 10_000 + i) for i in view.index.tolist()]
        return torch.stack([torch.randn(view.size, generator=each) for each in found]).double()


def rows_of(dense: Tensor) -> Inputs:
    count = len(dense)
    return Inputs(
        dense, dense.new_empty(count, 0, 1), dense.new_empty(count, 0, 1), dense.new_empty(count, 0)
    )


@pytest.fixture
def arbitrary() -> Arbitrary:
    return Arbitrary()


@pytest.fixture
def linear() -> Callable[..., Sample]:
    """Makes a sample of a linear model with these weights; each row has its own baseline."""

    def make(weights: Tensor, rows: int = 30, background: int = 1, chunk: int = 10_000) -> Sample:
        generator = torch.Generator().manual_seed(5)

        def normal(count: int) -> Tensor:
            return torch.randn(count, features, generator=generator, dtype=torch.double)

        features = len(weights)
        mask = FeatureMask(tuple(f"I{place}" for place in range(features)), torch.arange(features))
        inputs = normal(rows).repeat_interleave(background, 0)
        base = normal(rows * background)
        model = Linear(weights.double()).eval()
        view = MaskedModel(model, mask, rows_of(inputs), rows_of(base), chunk=chunk)
        return Sample(view, rows_of(normal(rows)))

    return make

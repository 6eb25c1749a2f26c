"""What features do alone, on a function whose effects are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.explain.evaluation.significance import PairedSwap
from glassrec.explain.features import build_feature_mask
from glassrec.explain.masking import MaskedModel
from glassrec.models.base import Inputs, Recommender


class Written(Recommender):
    """Any function of the dense columns."""

    def __init__(self, columns: int, function: Callable[..., Tensor]) -> None:
        schema = Schema(tuple(f"x{at}" for at in range(columns)))
        super().__init__(schema, schema, 1)
        self.function = function

    def score(self, inputs: Inputs) -> Tensor:
        return self.function(*inputs.dense.unbind(1)).unsqueeze(1)


def written(function: Callable[..., Tensor], dense: Tensor, chunk: int = 16384) -> MaskedModel:
    """The view of standard normal columns (N, D) and a function of them."""
    rows, columns = dense.shape
    model = Written(columns, function).double()
    empty = torch.empty(rows, 0)
    inputs = model.embed(Batch(dense.double(), empty.long(), empty.long(), empty))
    mask = build_feature_mask(model.schema, 1, "fields", model.device)
    return MaskedModel(
        model, mask, inputs, Inputs(*(torch.zeros_like(x) for x in inputs)), 0, chunk
    )


def normal(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_every_row_is_in_one_pair_and_takes_its_partners_value() -> None:
    dense = normal(7, 2)
    view = written(lambda x, y: 10 * x + y, dense, chunk=4)
    found = PairedSwap.draw(view, seed=0)
    assert found.rows.shape == (2, 3)
    assert len(found.rows.unique()) == 6
    own, other = dense.double()[found.rows], dense.double()[found.rows.flip(0)]
    torch.testing.assert_close(found.logits, 10 * own[..., 0] + own[..., 1])
    torch.testing.assert_close(found.swapped[..., 0], 10 * other[..., 0] + own[..., 1])
    torch.testing.assert_close(found.swapped[..., 1], 10 * own[..., 0] + other[..., 1])


def test_pairs_follow_from_the_seed() -> None:
    view = written(lambda x: x, normal(20, 1))
    assert torch.equal(PairedSwap.draw(view, 0).rows, PairedSwap.draw(view, 0).rows)
    assert not torch.equal(PairedSwap.draw(view, 0).rows, PairedSwap.draw(view, 1).rows)


def test_one_row_has_no_partner() -> None:
    with pytest.raises(ValueError, match="two rows are needed to swap values, and there is 1"):
        PairedSwap.draw(written(lambda x: x, normal(1, 1)), 0)


def test_main_effects_have_their_strengths_in_logits_and_pairs_have_none() -> None:
    # x² has the deviation √2 and z·w is a pure pair; the constant is no effect.
    view = written(lambda x, y, z, w, dead: 5 + 2 * x + y**2 + 3 * z * w, normal(20_000, 5))
    found = PairedSwap.draw(view, seed=0).main_effects()
    true = np.array([2, np.sqrt(2), 0, 0, 0])
    assert ((found["strength_low"] <= true) & (true <= found["strength_high"])).all()
    np.testing.assert_allclose(found["strength"][:2], true[:2], rtol=0.1)
    assert found["strength"].iloc[4] == 0
    assert (found["strength_high"] - found["strength_low"]).iloc[0] < 0.5


def test_the_interval_of_a_main_effect_holds_it_in_95_of_100_cases() -> None:
    held = []
    for seed in range(200):
        view = written(lambda x, y: x + 2 * x * y, normal(400, 2, seed))
        row = PairedSwap.draw(view, seed).main_effects().iloc[0]
        held.append(row["strength_low"] <= 1 <= row["strength_high"])
    assert 0.9 < np.mean(held) < 0.99

"""What a layer can do without, and what it says where that is nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from glassrec.models.layers import Affine, Hidden


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (nn.LayerNorm(4), "it feeds LayerNorm, which mixes its neurons"),
        (
            nn.BatchNorm1d(4),
            "it feeds BatchNorm1d, which cannot drop one of its inputs",
        ),
        (None, "no consumer of it is registered"),
    ],
)
def test_units_that_nobody_can_do_without_stay(reader: nn.Module | None, why: str) -> None:
    layer, affine = Hidden([3], 4), Affine([4], 2)
    if reader is not None:
        layer.register_consumer(affine)
        assert layer.not_prunable_reason is None
        affine.weight.data[:, 1] = 0
        assert layer.used.tolist() == [True, False, True, True]
        layer.register_consumer(reader)
    assert layer.not_prunable_reason == why
    assert not layer.foldable(torch.zeros(4)).any()
    assert layer.used.all()
    assert [view.shape for view in layer.outgoing_weights()] == [(2, 4)] * (reader is not None)
    with pytest.raises(ValueError, match=f"no neuron of this Hidden can be pruned: {why}"):
        layer.keep(torch.tensor([0, 2]), torch.zeros(4))
    assert len(layer.units) == 4
    assert affine.weight.shape == (2, 4)
    assert reader not in [*layer.modules()]


def test_what_is_left_is_told_by_the_numbers_as_built() -> None:
    layer = Hidden([3], 4)
    layer.register_consumer(Affine([4], 2))
    layer.keep(torch.tensor([0, 2, 3]), torch.zeros(4))
    layer.keep(torch.tensor([1, 2]), torch.zeros(3))
    assert layer.remaining.tolist() == [False, False, True, True]

"""What a layer can do without, and what it says where that is nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from glassrec.models.layers import Affine, Hidden


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (nn.LayerNorm(4), "it feeds LayerNorm, which mixes its units"),
        (
            nn.BatchNorm1d(4),
            "it feeds BatchNorm1d, which has no way to do without one of its units",
        ),
        (None, "it is not declared what it feeds"),
    ],
)
def test_units_that_nobody_can_do_without_stay(reader: nn.Module | None, why: str) -> None:
    layer, affine = Hidden([3], 4), Affine([4], 2)
    if reader is not None:
        layer.feeds(affine)
        assert layer.refusal is None
        affine.weight.data[:, 1] = 0
        assert layer.used.tolist() == [True, False, True, True]
        layer.feeds(reader)
    assert layer.refusal == why
    assert not layer.foldable(torch.zeros(4)).any()
    assert layer.used.all()
    assert [view.shape for view in layer.outgoing()] == [(2, 4)] * (reader is not None)
    with pytest.raises(ValueError, match=f"no unit of this Hidden can go: {why}"):
        layer.keep(torch.tensor([0, 2]), torch.zeros(4))
    assert len(layer.units) == 4
    assert affine.weight.shape == (2, 4)
    assert reader not in [*layer.modules()]


def test_what_is_left_is_told_by_the_numbers_as_built() -> None:
    layer = Hidden([3], 4)
    layer.feeds(Affine([4], 2))
    layer.keep(torch.tensor([0, 2, 3]), torch.zeros(4))
    layer.keep(torch.tensor([1, 2]), torch.zeros(3))
    assert layer.left.tolist() == [False, False, True, True]

"""Interval arithmetic held against thousands of values that really occur."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import inf

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassrec.prune.guarantees import bounds
from glassrec.prune.guarantees.bounds import Bounds, hull

FIRST, SECOND = torch.randn(2, 9, 3, generator=torch.manual_seed(0)).double()
"""The vectors of two sources, 9 ids each."""


def _row(first: Tensor = FIRST, second: Tensor = SECOND) -> Bounds:
    """(1, 6): a vector of either source, side by side."""
    start = torch.cat([first[0], second[0]])
    parts = torch.cat([start.expand(2, 6), torch.eye(6).double()]).unsqueeze(1)
    return Bounds(parts, [first - first[0], second - second[0]])


def _every(first: Tensor = FIRST, second: Tensor = SECOND) -> Tensor:
    """(81, 6): every value of the row."""
    return torch.stack([torch.cat(pair) for pair in product(first, second)])


WEIGHT, BIAS = torch.randn(4, 7, generator=torch.manual_seed(1)).double().split([6, 1], 1)
PLACES = torch.tensor([5, 0, 3])
NETWORK = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2), nn.Sigmoid())
AFFINE: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: F.linear(x, WEIGHT, BIAS.flatten()),
    "two linear maps": lambda x: F.linear(F.linear(x, WEIGHT), WEIGHT[:, :4]),
    "matmul": lambda x: x @ WEIGHT.T,
    "matmul from the left": lambda x: WEIGHT @ x.unsqueeze(2),
    "a matrix of numbers": lambda x: torch.matmul(x.reshape(-1, 2, 3), WEIGHT[:3]),
    "plus": lambda x: 1 + x + WEIGHT[:1] + 2 * x,
    "minus": lambda x: 3 - x - WEIGHT[:1] - (x - 1) / 4,
    "minus a part of itself": lambda x: -x - x[:, :1],
    "times": lambda x: WEIGHT[:1] * x * -2,
    "cat": lambda x: torch.cat([x[:, 3:], x[:, :2] * 2], 1),
    "cat with whole numbers": lambda x: torch.cat([x[:1], torch.arange(6).view(1, 6)]),
    "stack": lambda x: torch.stack([x, -x], 2),
    "index": lambda x: x[:, PLACES],
    "index by a list": lambda x: x.flatten()[[0, 4]],
    "index_select": lambda x: x.index_select(1, PLACES),
    "index_copy": lambda x: x.new_ones(len(x), 6).index_copy(1, PLACES, x[:, :3]),
    "unbind": lambda x: x.reshape(-1, 2, 3).unbind(1)[1],
    "split": lambda x: x.split([1, 5], 1)[1],
    "chunk": lambda x: x.chunk(2, 1)[0],
    "tensor_split": lambda x: x.tensor_split([2], dim=1)[1],
    "transpose": lambda x: x.reshape(-1, 2, 3).transpose(1, 2).flatten(1),
    "expand": lambda x: x.unsqueeze(1).expand(len(x), 3, 6).squeeze(0),
    "sum": lambda x: x.sum(1, keepdim=True),
    "mean": lambda x: x.mean(1),
    "where a mask says": lambda x: torch.where(torch.arange(6) < 2, x, 0.5),
    "a ReLU that is always open": lambda x: F.relu(x + 10) - x[:, :1],
    "dropout at rest": lambda x: nn.Dropout().eval()(x),
}
BENT: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: torch.relu(x),
    "relu of some": lambda x: F.relu(x + torch.tensor([9.0, 0, 0, -9, 0, 0])) @ WEIGHT.T,
    "sigmoid": lambda x: x.sigmoid(),
    "minus a sigmoid": lambda x: 0.1 - x.sigmoid(),
    "tanh": lambda x: torch.tanh(x),
    "leaky ReLU": lambda x: nn.LeakyReLU()(x),
    "leaky ReLU that falls": lambda x: F.leaky_relu(x, -0.5),
    "softplus": lambda x: F.softplus(x),
    "clamp": lambda x: x.clamp(-0.5, 1),
    "square": lambda x: x.square() + x**2,
    "abs": lambda x: x.abs(),
    "product": lambda x: x * x[:, PLACES[:1]],
    "product of two sources": lambda x: x[:, :3] * x[:, 3:],
    "bmm": lambda x: torch.bmm(x.reshape(-1, 2, 3), x.reshape(-1, 2, 3).transpose(1, 2)),
    "lerp": lambda x: torch.lerp(x, x.tanh(), x.sigmoid()),
    "lerp beyond its ends": lambda x: torch.lerp(x, x.tanh(), 3 * x),
    "where a comparison says": lambda x: torch.where(x > 0.1, x - 1, 2.0) + x.where(x < 9, 0),
    "comparison": lambda x: (x >= 0) * 2.0 + (x < 0.3),
    "comparison of two": lambda x: (x[:, :3] > x[:, 3:]) + 2 * (x[:, :3] <= x[:, 3:]),
    "a network": NETWORK.double().requires_grad_(False),
}


@pytest.mark.parametrize("name", [*AFFINE, *BENT])
def test_no_value_lies_outside(name: str) -> None:
    function = {**AFFINE, **BENT}[name]
    found = function(_row())
    assert isinstance(found, Bounds)
    for row in _every():
        value = function(row.unsqueeze(0))
        assert value.shape == found.low.shape == found.shape
        assert ((found.low - 1e-12 <= value) & (value <= found.high + 1e-12)).all()


@pytest.mark.parametrize("name", [*AFFINE, "product of two sources", "relu", "sigmoid"])
def test_what_is_affine_in_each_source_is_attained(name: str) -> None:
    function = {**AFFINE, **BENT}[name]
    found = function(_row())
    values = torch.stack([function(row.unsqueeze(0)) for row in _every()])
    torch.testing.assert_close(found.low, values.amin(0).double())
    torch.testing.assert_close(found.high, values.amax(0).double())


@pytest.mark.parametrize("name", [*AFFINE, *BENT])
def test_what_does_not_vary_has_no_width_at_all(name: str) -> None:
    same = FIRST[:1].expand(9, 3)
    found = {**AFFINE, **BENT}[name](_row(same, same.flip(1)))
    assert torch.equal(found.low, found.high)


def test_long_tables_pass_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = F.linear(_row(), WEIGHT)
    ends = whole.low, whole.high
    monkeypatch.setattr(bounds, "BLOCK", 9)
    blocks = F.linear(_row(), WEIGHT)
    torch.testing.assert_close((blocks.low, blocks.high), ends)


def test_a_number_without_bounds_counts_for_nothing_at_a_zero_weight() -> None:
    x = Bounds(torch.tensor([[[-inf, 0.0, -1.0]], [[inf, inf, 1.0]]]).double())
    weight = torch.tensor([[0.0, 0, 2], [0, 3, 1], [0, -3, 1], [1, 0, 0]]).double()
    found = F.linear(x, weight, torch.ones(4).double())
    assert found.low.tolist() == [[-1.0, 0.0, -inf, -inf]]
    assert found.high.tolist() == [[3.0, inf, 2.0, inf]]
    assert F.relu(-x[:, 1:2]).high.item() == 0
    nothing = x * (x[:, 2:] * 0)
    assert nothing.low.tolist() == nothing.high.tolist() == [[0, 0, 0]]
    assert torch.sigmoid(x).high.tolist()[0][:2] == [1, 1]


def test_a_unit_that_cannot_fire_is_zero() -> None:
    found = F.relu(F.linear(_row(), WEIGHT, torch.full((4,), -1000.0).double()))
    assert found.low.tolist() == found.high.tolist() == [[0] * 4]


def test_the_hull_holds_tensors_and_bounds() -> None:
    low, high = hull([_row(), torch.full((1, 6), 5.0).double()])
    torch.testing.assert_close(low, _every().amin(0, keepdim=True))
    assert high.tolist() == [[5] * 6]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: torch.softmax(x, 1), "softmax"),
        (lambda x: F.layer_norm(x, (6,)), "layer_norm"),
        (lambda x: x.add_(1), "add_"),
        (lambda x: F.relu(x, inplace=True), "relu"),
        (lambda x: 1 / x, "reciprocal|rdiv"),
        (lambda x: x**3, "pow"),
        (lambda x: F.linear(WEIGHT, x), "linear"),
        (lambda x: nn.Dropout()(x), "dropout"),
        (lambda x: x if x.sum() > 0 else -x, "bool"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(
    function: Callable[[Tensor], Tensor], name: str
) -> None:
    with pytest.raises(ValueError, match=rf"operation '({name})'; set prune.level=data"):
        function(_row())

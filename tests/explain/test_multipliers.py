"""Multipliers against formulas, whatever a model calls the same function."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassrec.explain.methods.deeplift import multipliers

Function = Callable[..., Tensor]


def _points(count: int) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(5, 4, dtype=torch.float64) for _ in range(count)]


def _found(score: Function, *points: Tensor, model: nn.Module | None = None) -> tuple[Tensor, ...]:
    """The multipliers at the first half of the points, against the second half."""
    half = len(points) // 2
    return multipliers(model or nn.Module(), score, points[:half], points[half:])


def test_of_a_relu_times_a_value_by_hand() -> None:
    at = torch.tensor([[2.0], [-1.0]]), torch.tensor([[5.0], [3.0]])
    before = torch.tensor([[-2.0], [3.0]]), torch.tensor([[1.0], [-1.0]])
    by_relu, by_factor = _found(lambda x, y: (x.relu() * y).sum(1), *at, *before)
    # Row 1: relu goes from 0 to 2 on a way of 4, and y is 3 in the middle: 1/2 · 3, and (0 + 2)/2.
    # Row 2: relu goes from 3 to 0 on a way of −4, and y is 1 in the middle: 3/4 · 1, and (3 + 0)/2.
    torch.testing.assert_close(by_relu, torch.tensor([[1.5], [0.75]]))
    torch.testing.assert_close(by_factor, torch.tensor([[1.0], [1.5]]))


def test_of_a_product_of_three_add_up() -> None:
    x, y, z, x0, y0, z0 = points = _points(6)
    found = _found(lambda x, y, z: (x * y * z).sum(1), *points)
    torch.testing.assert_close(found[2], (x * y + x0 * y0) / 2)
    torch.testing.assert_close(found[0], (z + z0) / 2 * (y + y0) / 2)


PRODUCTS: list[Function] = [
    lambda x, y: x * y,
    lambda x, y: (2 * x).mul_(y),
    lambda x, y: torch.multiply(x, y),
    lambda x, y: torch.einsum("bi,bi->b", x, y),
    lambda x, y: torch.einsum("bi,bj->bij", [x, y]),
    lambda x, y: torch.bmm(x.unsqueeze(1), y.unsqueeze(2)),
    lambda x, y: x.unsqueeze(1) @ y.view(-1, 2, 2).repeat(1, 2, 1),
    lambda x, y: torch.lerp(x, y, x),
    lambda x, y: torch.lerp(x, y, 0.3) * y,
    lambda x, y: torch.addcmul(x, x, y, value=3.0),
    lambda x, y: torch.baddbmm(y.unsqueeze(2), x.unsqueeze(2), y[:, :1].unsqueeze(1)),
    lambda x, y: F.bilinear(x, y, torch.arange(32.0).double().view(2, 4, 4)),
    lambda x, y: x.square() + y**2,
    lambda x, y: (x + y) * (x - y) + x * 2,
]


@pytest.mark.parametrize("product", PRODUCTS)
def test_of_a_product_are_the_gradients_halfway(product: Function) -> None:
    x, y, x0, y0 = points = _points(4)
    found = _found(lambda x, y: product(x, y).reshape(5, -1).sum(1), *points)
    middle = [((a + b) / 2).requires_grad_() for a, b in ((x, x0), (y, y0))]
    expected = torch.autograd.grad(product(*middle).sum(), middle)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


MODULES = (
    nn.ReLU, nn.ReLU6, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Sigmoid,
    nn.Tanh, nn.LeakyReLU, nn.PReLU, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.LogSigmoid,
    nn.Softsign, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink,
)  # fmt: skip
FUNCTIONS: list[Function] = [
    torch.relu, torch.sigmoid, torch.tanh, torch.exp, torch.sin, torch.erf, torch.special.expit,
    F.gelu, F.silu, F.softplus, F.relu6, F.elu, abs, Tensor.sigmoid, Tensor.tanh, Tensor.relu,
    torch.sign, torch.round, lambda x: x.clamp(min=0), lambda x: torch.clamp(x, -0.5, 0.5),
    lambda x: x**3, lambda x: 2**x, lambda x: torch.pow(2, x), lambda x: 1 / (x + 9),
    lambda x: (x + 9).log(), lambda x: (x + 9).sqrt(), lambda x: (x + 9).rsqrt(),
    lambda x: F.relu(x * 1, inplace=True), lambda x: (x * 1).relu_(), lambda x: (x * 1).sigmoid_(),
    lambda x: torch.pow(torch.arange(1.0, 5).double().view(4, 1, 1), x).sum(0),
    lambda x: F.threshold(x, 0.1, 0.0), lambda x: F.leaky_relu(x, negative_slope=0.3),
]  # fmt: skip


@pytest.mark.parametrize("function", [*FUNCTIONS, *(module().double() for module in MODULES)])
def test_of_a_nonlinearity_are_the_slopes_between_both_ends(function: Function) -> None:
    x, x0 = _points(2)
    model = function if isinstance(function, nn.Module) else None
    (found,) = _found(lambda x: function(x).sum(1), x, x0, model=model)
    with torch.no_grad():
        expected = (function(x) - function(x0)) / (x - x0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    assert expected.abs().max() > 0


@pytest.mark.parametrize(
    "quotient",
    [
        lambda x, y: x / y, lambda x, y: torch.div(x, other=y), lambda x, y: (x * 1).div_(y),
        lambda x, y: x.true_divide(y),
    ],
)  # fmt: skip
def test_of_a_quotient_add_up(quotient: Function) -> None:
    x, y, x0, y0 = _points(4)
    y, y0 = y.abs() + 1, y0.abs() + 1
    by_dividend, by_divisor = _found(lambda x, y: quotient(x, y).sum(1), x, y, x0, y0)
    torch.testing.assert_close(by_dividend, (1 / y + 1 / y0) / 2)
    torch.testing.assert_close(by_divisor, -(x + x0) / 2 / (y * y0))


def test_of_near_values_are_derivatives_but_not_at_a_kink() -> None:
    x = torch.linspace(-4, 4, 101).unsqueeze(1)
    near = x + 1e-6
    derivative = x.sigmoid() * (1 - x.sigmoid())
    (found,) = _found(lambda x: x.sigmoid().sum(1), near, x)
    torch.testing.assert_close(found, derivative, rtol=1e-4, atol=0)
    rough = (near.sigmoid() - x.sigmoid()) / (near - x)
    assert ((rough / derivative - 1).abs() > 0.05).any(), "the slope itself is mostly rounding"
    over = torch.tensor([[3e-7]]), torch.tensor([[-1e-7]])
    (found,) = _found(lambda x: x.relu().sum(1), *over)
    assert found.item() == pytest.approx(0.75)
    (found,) = _found(lambda x: x.relu().sum(1), torch.ones(1, 1), torch.ones(1, 1))
    assert found.item() == 1


def test_it_does_not_matter_what_a_model_overwrites() -> None:
    def overwriting(x: Tensor, y: Tensor) -> Tensor:
        hidden = x * 2
        activated = F.leaky_relu(hidden * 1, 0.1, inplace=True)
        gated = F.silu(hidden)
        gated += 1
        gated *= y
        return (gated + activated.tanh_()).sum(1)

    def plain(x: Tensor, y: Tensor) -> Tensor:
        hidden = x * 2
        return ((F.silu(hidden) + 1) * y + torch.tanh(F.leaky_relu(hidden, 0.1))).sum(1)

    points = _points(4)
    for ours, theirs in zip(_found(overwriting, *points), _found(plain, *points), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_rows_may_lie_along_any_dimension_and_a_module_may_be_called_twice() -> None:
    twice = nn.Sigmoid()

    def score(x: Tensor, y: Tensor) -> Tensor:
        across = torch.stack([twice(x.T), y.T]).sum(1)
        return twice(across[0] * across[1])

    x, y, x0, y0 = points = _points(4)
    found = _found(score, *points, model=twice)
    parts = found[0] * (x - x0) + found[1] * (y - y0)
    torch.testing.assert_close(parts.sum(1), score(x, y) - score(x0, y0), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("softmax", lambda x, y: x.softmax(1)),
        ("softmax", lambda x, y: nn.Softmax(1)(x)),
        ("layer_norm", lambda x, y: F.layer_norm(x, (4,))),
        ("max", lambda x, y: x.max(1).values),
        ("maximum", lambda x, y: torch.maximum(x, y)),
        ("normalize", lambda x, y: F.normalize(x)),
        ("linalg_vector_norm", lambda x, y: torch.linalg.vector_norm(x, dim=1)),
        ("gru", lambda x, y: nn.GRU(4, 2).double()(x)[0]),
        ("pow", lambda x, y: x.abs() ** y),
        ("div", lambda x, y: torch.div(x, y, rounding_mode="floor")),
        (
            "scaled_dot_product_attention",
            lambda x, y: F.scaled_dot_product_attention(*[x.view(5, 2, 2)] * 3),
        ),
    ],
)
def test_a_function_without_a_rule_is_named(name: str, function: Function) -> None:
    with pytest.raises(ValueError, match=rf"no rule for `{name}`.*method=integrated_gradients"):
        _found(lambda x, y: function(x, y).flatten(1).sum(1), *_points(4))


def test_functions_of_what_does_not_depend_on_the_inputs_need_no_rule() -> None:
    weight = nn.Linear(4, 4).double()

    def score(x: Tensor) -> Tensor:
        return (x @ weight.weight.softmax(1) / weight.bias.norm()).sum(1)

    x, x0 = _points(2)
    (found,) = _found(score, x, x0, model=weight)
    with torch.no_grad():
        parts, expected = (found * (x - x0)).sum(1), score(x) - score(x0)
    torch.testing.assert_close(parts, expected)


@pytest.mark.parametrize(
    "score",
    [
        lambda x: (x.relu() if x.sum() > 0 else x.sigmoid()).sum(1),
        lambda x: (x.relu() if x.sum() > 0 else x).sum(1),
        lambda x: (x if x.sum() > 0 else x.relu()).sum(1),
        lambda x: x[:, : 2 + int(x.sum() > 0)].relu().sum(1),
        lambda x: (x[:, : 2 + int(x.sum() > 0)] * x[:, :1]).sum(1),
    ],
)
def test_another_path_for_a_baseline_is_refused(score: Function) -> None:
    ones = torch.ones(2, 4)
    with pytest.raises(ValueError, match=r"one thing for a baseline and another for a row"):
        _found(score, ones, -ones)
    _found(score, ones, ones)

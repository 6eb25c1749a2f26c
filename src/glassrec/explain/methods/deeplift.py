"""DeepLIFT with a rule for products, so that it is complete on models that multiply features.

The rescale rule (Shrikumar, Greenside and Kundaje, ICML 2017) replaces the derivative of a
nonlinearity by the slope between its values at the baseline and at the row. DeepLIFT has no rule
for a product of two values that both depend on the inputs. Here each factor counts by the mean of
the other one at both ends:

    ab − a₀b₀ = (a − a₀) (b + b₀)/2 + (b − b₀) (a + a₀)/2

Every step is exact then, and so is their chain. The model stays as it is: baselines and rows pass
it, and its calls of PyTorch are looked at by name. So a model may spell `relu`, `*` or `einsum` as
it likes, and use a module twice; only what runs below Python is not seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from glassrec.explain.masking import FeatureMask, MaskedModel
from glassrec.explain.methods import Method
from glassrec.models.base import Inputs, Recommender


@dataclass(frozen=True)
class DeepLift(Method):
    """DeepLIFT's rescale rule (Shrikumar et al., ICML 2017), and the midpoint rule for products."""

    title = "DeepLIFT, rescale and midpoint rules"
    complete = True

    def evaluations(self, features: int) -> int:
        """The row and its baseline."""
        return 2

    def check(self, model: Recommender, feature_mask: FeatureMask, baselines: int) -> None:
        """Lets a row of zeros pass, which finds functions that have no rule."""
        super().check(model, feature_mask, baselines)
        self.attribute_zeros(model, feature_mask)

    def attribute(self, view: MaskedModel, seed: int) -> Tensor:
        """Multipliers times differences; ValueError if a function has no rule."""
        *rows, steps = view.inputs
        *baselines, _ = view.masked_out

        def score(dense: Tensor, fields: Tensor, history: Tensor) -> Tensor:
            return view.model.task_logits(Inputs(dense, fields, history, steps))[:, view.task]

        # The marks of which steps exist are in no feature.
        found = *multipliers(view.model, score, rows, baselines), torch.zeros_like(steps)
        parts = (m * (x - b) for m, x, b in zip(found, view.inputs, view.masked_out, strict=True))
        return view.feature_mask.sum_by_feature(Inputs(*parts))


@dataclass(frozen=True)
class DeepLiftShap(DeepLift):
    """DeepLift averaged over training rows, which approximates their SHAP values.

    As in Lundberg and Lee (NeurIPS 2017). The average is that of `explain.baseline=background`.
    """

    title = "DeepLIFT SHAP, rescale and midpoint rules"
    averaged = True


PRODUCTS = frozenset(
    [
        "addbmm", "addcmul", "addmm", "addmv", "addr", "baddbmm", "bilinear", "bmm", "dot",
        "einsum", "ger", "inner", "kron", "lerp", "linear", "matmul", "mm", "mul",
        "multiply", "mv", "outer", "tensordot", "vdot",
    ]
)  # fmt: skip
"""Linear in each factor, so that the gradient of one factor is linear in the others."""

QUOTIENTS = frozenset(["div", "divide", "true_divide"])
"""a / b is the product of a and 1 / b."""

ELEMENTWISE = frozenset(
    [
        "abs", "absolute", "acos", "acosh", "arccos", "arccosh", "arcsin", "arcsinh",
        "arctan", "arctanh", "asin", "asinh", "atan", "atanh", "ceil", "celu", "clamp",
        "clamp_max", "clamp_min", "clip", "cos", "cosh", "elu", "erf", "erfc", "exp",
        "exp2", "expit", "expm1", "float_power", "floor", "frac", "gelu", "hardshrink",
        "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log", "log10", "log1p",
        "log2", "log_sigmoid", "logit", "logsigmoid", "mish", "pow", "prelu", "rdiv",
        "reciprocal", "relu", "relu6", "round", "rpow", "rrelu", "rsqrt", "selu", "sigmoid",
        "sign", "silu", "sin", "sinc", "sinh", "softplus", "softshrink", "softsign", "sqrt",
        "square", "tan", "tanh", "tanhshrink", "threshold", "trunc",
    ]
)  # fmt: skip
"""Nonlinear in each number for itself."""

REFUSED = frozenset(
    [
        "adaptive_max_pool1d", "adaptive_max_pool2d", "amax", "amin", "aminmax", "atan2",
        "cdist", "cosine_similarity", "cummax", "cummin", "cumprod", "glu", "group_norm",
        "gru", "gru_cell", "gumbel_softmax", "hypot", "instance_norm", "kthvalue",
        "layer_norm", "linalg_norm", "linalg_vector_norm", "log_softmax", "logaddexp",
        "logcumsumexp", "logsumexp", "lstm", "lstm_cell", "max", "max_pool1d", "max_pool2d",
        "maximum", "median", "min", "minimum", "multi_head_attention_forward", "norm",
        "normalize", "pairwise_distance", "prod", "rms_norm", "rnn_relu", "rnn_relu_cell",
        "rnn_tanh", "rnn_tanh_cell", "scaled_dot_product_attention", "softmax", "softmin",
        "sort", "std", "std_mean", "topk", "var", "var_mean",
    ]
)  # fmt: skip
"""Nonlinear in several numbers at once; there is no rule for them."""

RULED = PRODUCTS | QUOTIENTS | ELEMENTWISE | REFUSED
"""Everything else is taken to be linear. Where it is not, the completeness error shows it."""


def multipliers(
    model: nn.Module,
    score: Callable[..., Tensor],
    rows: Sequence[Tensor],
    baselines: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """What each number of the rows counts for in the outputs' differences from the baselines.

    `score` takes tensors of B rows and gives B outputs, each of its own row; `rows` and `baselines`
    are what it takes, and the result has their shapes. The model stays as it is.

    Raises:
        ValueError: `score` calls a nonlinear function for which there is no rule, or takes another
            path for the baselines.
    """
    at, before = ([x.detach().requires_grad_() for x in each] for each in (rows, baselines))
    with _frozen(model):
        with _Baselines() as seen:
            score(*before)
        with _Rows(seen.calls) as walk:
            output = score(*at)
        walk.close()
        return torch.autograd.grad(output.sum(), at, materialize_grads=True)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Let only the inputs require gradients, so that what requires them depends on the inputs."""
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learnt:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)


@dataclass(frozen=True)
class _Call:
    """A call of a function of PyTorch."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self) -> Any:
        return self.func(*self.args, **self.kwargs)

    @property
    def name(self) -> str:
        """The same in all spellings: `mul` for `torch.mul`, `mul_`, `*` and `aten.mul.Tensor`."""
        return self.func.__name__.strip("_").removeprefix("special_").removeprefix("native_")

    @property
    def moving(self) -> list[Tensor]:
        given = [*self.args, *self.kwargs.values()]
        flat = [x for each in given for x in (each if isinstance(each, list | tuple) else [each])]
        return [x for x in flat if isinstance(x, Tensor) and x.requires_grad]

    @property
    def in_place(self) -> bool:
        name = self.func.__name__
        method = name.endswith("_") and not name.endswith("__")
        return method or self.kwargs.get("inplace", False)

    def of(self, x: Tensor, other: Tensor) -> Tensor:
        """The value if the argument `x` were the `other` tensor, which is not overwritten."""
        other = other.clone() if self.in_place else other
        args = tuple(other if each is x else each for each in self.args)
        kwargs = {key: other if each is x else each for key, each in self.kwargs.items()}
        return replace(self, args=args, kwargs=kwargs)()


class _Walk(TorchFunctionMode, ABC):
    """Looks at each call that a model makes, and hands it to the rule for its function."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        call = _Call(getattr(func, "overloadpacket", func), args, kwargs or {})
        if call.name not in RULED or not (moving := call.moving):
            return call()
        if call.name in PRODUCTS:
            return self.product(call) if len(moving) > 1 else call()
        if call.name in QUOTIENTS and not call.kwargs.get("rounding_mode"):
            dividend, divisor, *_ = *call.args, *call.kwargs.values()
            return self._quotient(call, dividend, divisor)
        if call.name in ELEMENTWISE and len(moving) == 1:
            return self.elementwise(call, moving[0])
        several = f" of {len(moving)} tensors that depend on the inputs" if len(moving) > 1 else ""
        raise ValueError(
            f"DeepLIFT has no rule for `{call.name}`{several}, which the model calls; "
            "take explain/method=integrated_gradients, which needs none"
        )

    def _quotient(self, call: _Call, dividend: Any, divisor: Any) -> Any:
        """Linear in the dividend; a divisor that depends on the inputs makes it a product."""
        if not isinstance(divisor, Tensor) or not divisor.requires_grad:
            return call()
        with self:
            inverse = divisor.reciprocal()
            return dividend.mul_(inverse) if call.in_place else dividend * inverse

    @abstractmethod
    def product(self, call: _Call) -> Any: ...

    @abstractmethod
    def elementwise(self, call: _Call, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class _Seen:
    """A call that the baselines made."""

    name: str
    tensors: list[Tensor]
    """the argument of a nonlinearity, or what autograd keeps of a product's factors; copied, as
    the model may overwrite its own"""


class _Baselines(_Walk):
    """Notes what the baselines put into nonlinear functions, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Seen] = []

    def product(self, call: _Call) -> Any:
        factors: list[Tensor] = []
        self.calls.append(_Seen(call.name, factors))

        def note(kept: Tensor) -> Tensor:
            factors.append(kept.clone())
            return factors[-1]

        with saved_tensors_hooks(note, lambda kept: kept):
            return call()

    def elementwise(self, call: _Call, x: Tensor) -> Tensor:
        self.calls.append(_Seen(call.name, [x.detach().clone()]))
        return call()


class _Rows(_Walk):
    """Gives what the rows pass through the slopes from the baselines' `calls`."""

    def __init__(self, calls: Sequence[_Seen]) -> None:
        super().__init__()
        self.calls = iter(calls)

    def product(self, call: _Call) -> Any:
        factors = iter(self._before(call))

        def middle(kept: Tensor) -> Tensor:
            return (kept + _like(kept, next(factors, None))) / 2

        with saved_tensors_hooks(middle, lambda kept: kept):
            return call()

    def elementwise(self, call: _Call, x: Tensor) -> Tensor:
        before = _like(x, *self._before(call))
        value = _Sloped.apply(x, lambda: _value_and_slope(call, x, before))
        return x.copy_(value) if call.in_place else value

    def close(self) -> None:
        if (left := next(self.calls, None)) is not None:
            raise _another_path(left.name, "nothing")

    def _before(self, call: _Call) -> list[Tensor]:
        seen = next(self.calls, _Seen("nothing", []))
        if seen.name != call.name:
            raise _another_path(seen.name, call.name)
        return seen.tensors


def _like(at: Tensor, before: Tensor | None) -> Tensor:
    if before is None or before.shape != at.shape:
        shape = None if before is None else tuple(before.shape)
        raise _another_path(f"a tensor of shape {shape}", f"one of {tuple(at.shape)}")
    return before


def _another_path(before: str, at: str) -> ValueError:
    return ValueError(
        f"the model computes one thing for a baseline and another for a row ({before}, and {at} in "
        "its place); DeepLIFT needs one path; take explain/method=integrated_gradients"
    )


def _value_and_slope(call: _Call, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """What the call makes of `x`, and the slope to there from what it makes of `before`.

    A difference of two near values is mostly rounding: there the derivative halfway is taken, where
    it explains the difference as far as floating point can tell, which is never at a kink.
    """
    value = call.of(x, x)
    at, before = x.detach().expand_as(value), before.expand_as(value)
    with torch.enable_grad():
        halfway = ((at + before) / 2).requires_grad_()
        (slope,) = torch.autograd.grad(call.of(x, halfway).sum(), halfway)
    start = call.of(x, before)
    run, rise = at - before, value - start
    rounding = 2 * torch.finfo(value.dtype).eps * (value.abs() + start.abs())
    return value, slope.where((rise - slope * run).abs() <= rounding, rise / run)


class _Sloped(torch.autograd.Function):
    """A value of `x` that has a given slope as its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, find: Callable[[], tuple[Tensor, Tensor]]) -> Tensor:
        value, slope = find()
        ctx.save_for_backward(slope)
        ctx.shape = x.shape
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return (gradient * slope).sum_to_size(ctx.shape), None

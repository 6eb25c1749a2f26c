"""Interval arithmetic through any model's `score`: bounds of each number over all inputs.

A `Bounds` takes the place of a row's tensor, and every operation on it gives the bounds of the
operation's result. It represents each number x of its shape as

    x = interval + Σ over sources s, (d_s · symbols_s),  d_s one of the rows of `sources[s]`

A source varies on its own: the id of a field, a dense column, a step of the history. d_s is the
distance of its vector from a reference vector. Affine operations act on the symbols exactly, so
bounds of affine functions of the sources are exact. Others give intervals, which are sound for any
dependence: affine forms as in de Figueiredo and Stolfi (Affine arithmetic, 2004), with a finite set
of rows for each symbol.

All is float64: a bound can be off by about 1e-13 of the numbers that are added up, where a
certificate tolerates 1e-9. Where no input of a number varies, `high` is `low` to the bit, so that a
neuron with low = high is constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import inf
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 1 << 22
"""How many numbers of a source's reach are held at once, 32 MB."""

Rule = Callable[..., Any]


class Bounds(Tensor):
    """Bounds of a tensor of this shape; it holds no values that could leak.

    Args:
        parts: (2 + S, *shape): low, high, and the symbols, one after another for each source; or
            (2, *shape) where no source is known any more.
        sources: a tensor (rows, width) each, its reference row first; their widths add up to S.

    Raises:
        ValueError: on an operation that has no rule here.
    """

    parts: Tensor
    sources: Sequence[Tensor]

    def __new__(cls, parts: Tensor, sources: Sequence[Tensor] = ()) -> Bounds:
        """A tensor of a shape without values, with the bounds of them."""
        self = torch.empty(parts.shape[1:], device="meta").as_subclass(cls)
        self.parts, self.sources = parts, sources
        return self

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # In place, an operation would change what other bounds were made from.
        rule = refuse if kwargs.get("inplace") else _RULES.get(operation(func), refuse)
        return rule(func, *args, **kwargs)

    def __repr__(self, **_: object) -> str:  # type: ignore[override]
        return f"Bounds({self.low}, {self.high})"

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor]:
        low, high = self.parts[:2]
        start = 2
        for source in self.sources if len(self.parts) > 2 else ():
            stop = start + source.shape[1]
            below, above = _reach(source, self.parts[start:stop].reshape(stop - start, -1))
            low, high = low + below.view_as(low), high + above.view_as(high)
            start = stop
        return low, high

    @property
    def low(self) -> Tensor:
        """The smallest that each number can be; -inf if nothing is known."""
        return self._ends[0]

    @property
    def high(self) -> Tensor:
        """The largest that each number can be; inf if nothing is known."""
        return self._ends[1]


def operation(func: Callable[..., Any]) -> str:
    """`add` for `Tensor.add`, `Tensor.__add__` and `torch.add`; `add_` is another."""
    name = func.__name__
    if name == "__get__":  # an attribute, such as `Tensor.shape`
        return func.__self__.__name__  # type: ignore[attr-defined]
    return name[2:-2] if name.startswith("__") else name


def refuse(func: Callable[..., Any], *_: object, **__: object) -> NoReturn:
    """ValueError for an operation without a rule."""
    raise ValueError(
        f"bounds over all inputs are not known through the operation {operation(func)!r}; set "
        "prune.level=data, or write `score` with affine maps, products and the usual activations"
    )


def _reach(source: Tensor, symbols: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the most (n,) of `source` (rows, width) @ `symbols` (width, n), block by block.

    Of the rows of a source less the first one, so that zero is always within.
    """
    low, high = symbols.new_zeros(2, symbols.shape[1])
    read = symbols.any(0)
    columns = symbols[:, read]
    if not columns.numel():
        return low, high
    ends = low[read], high[read]
    for block in source.split(max(1, BLOCK // max(columns.shape))):
        there = ((block.to(columns) - source[0].to(columns)) @ columns).aminmax(dim=0)
        ends = torch.minimum(ends[0], there.min), torch.maximum(ends[1], there.max)
    low[read], high[read] = ends
    return low, high


def interval(low: Tensor, high: Tensor) -> Bounds:
    """Bounds without any source."""
    return Bounds(torch.stack([low, high]).double())


def _ends_of(value: Any) -> tuple[Any, Any]:
    return (value.low, value.high) if isinstance(value, Bounds) else (value, value)


def hull(several: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The lowest and the highest of tensors or bounds of one shape."""
    lows, highs = zip(*map(_ends_of, several), strict=True)
    return torch.stack(lows).amin(0), torch.stack(highs).amax(0)


# Affine operations. Whatever adds up numbers with factors that are not negative, or only moves them
# about, does the same to low, to high and to every symbol.


def map_numbers(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """`value` with its tensors of numbers changed, in lists too; indices and masks stay."""
    if isinstance(value, list | tuple):
        return type(value)(map_numbers(element, change) for element in value)
    number = isinstance(value, Tensor) and (isinstance(value, Bounds) or value.is_floating_point())
    return change(value) if number else value


def _additive(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    found: list[Tensor] = []
    map_numbers(args, found.append)
    bounds = [value for value in found if isinstance(value, Bounds)]
    if not bounds:
        return refuse(func)
    parts = max((value.parts for value in bounds), key=len)
    sources = next(value.sources for value in bounds if len(value.parts) == len(parts))
    stacks = [_stack(value, len(parts)) for value in found]

    def on_one(*tensors: Tensor) -> Any:
        each = iter(tensors)
        return func(*map_numbers(args, lambda _: next(each)), **kwargs)

    results = torch.vmap(on_one)(*stacks)
    if isinstance(results, Tensor):
        return _narrowed(results, sources)
    return tuple(_narrowed(result, sources) for result in results)


def _stack(value: Tensor, count: int) -> Tensor:
    """The width and the `count` parts of bounds or of known numbers: (1 + count, *shape)."""
    parts = value.parts if isinstance(value, Bounds) else torch.stack([value, value])
    missing = parts.new_zeros(count - len(parts), *parts.shape[1:])
    return torch.cat([(parts[1] != parts[0]).to(parts).unsqueeze(0), parts, missing])


def _narrowed(stack: Tensor, sources: Sequence[Tensor]) -> Bounds:
    """Bounds of a changed `_stack`; a number without width is one number, rounded once."""
    varies, low, high = stack[:3]
    parts = torch.cat([torch.stack([low, high.where(varies != 0, low)]), stack[3:]])
    return Bounds(parts, sources if len(parts) > 2 else ())


def _scaled(apply: Callable[[Tensor, Tensor], Tensor], x: Bounds, weight: Tensor) -> Bounds:
    """`apply(x, weight)`, linear in either. Zero times an unbounded number is zero."""
    low, high = x.parts[:2]
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    varies = apply((low != high).to(weight), weight.abs()) > 0
    known_low, known_high = (end.where(end.isfinite(), 0) for end in (low, high))
    no_low, no_high = ((end.isinf()).to(weight) for end in (low, high))
    least = apply(known_low, up) + apply(known_high, down)
    most = apply(known_high, up) + apply(known_low, down)
    least = least.masked_fill(apply(no_low, up) - apply(no_high, down) > 0, -inf)
    most = most.masked_fill(apply(no_high, up) - apply(no_low, down) > 0, inf)
    ends = torch.stack([least, most.where(varies, least)])
    if len(x.parts) == 2:
        return Bounds(ends)
    symbols = torch.vmap(lambda part: apply(part, weight))(x.parts[2:])
    return Bounds(torch.cat([ends, symbols]), x.sources)


def _numbers(*values: Any) -> list[Tensor]:
    """Tensors and numbers in the precision of the bounds among them, so that none is an index."""
    like = next(value.parts for value in values if isinstance(value, Bounds))
    return [
        v if isinstance(v, Bounds) else torch.as_tensor(v, dtype=like.dtype, device=like.device)
        for v in values
    ]


def _add(_: Rule, x: Any, y: Any, alpha: float = 1) -> Any:
    x, y = _numbers(x, y)
    return _additive(torch.add, x, y if alpha == 1 else y * alpha)


def _subtract(func: Rule, x: Any, y: Any, alpha: float = 1) -> Any:
    return _add(func, x, y, -alpha)


def _negate(_: Rule, x: Bounds) -> Bounds:
    low, high, *symbols = -x.parts
    return Bounds(torch.stack([high, low, *symbols]), x.sources)


def _multiply(_: Rule, x: Any, y: Any) -> Bounds:
    x, y = _numbers(x, y)
    if not isinstance(y, Bounds):
        return _scaled(torch.mul, x, y)
    if not isinstance(x, Bounds):
        return _scaled(torch.mul, y, x)
    corners = torch.stack(
        [(a * b).where((a != 0) & (b != 0), 0) for a in _ends_of(x) for b in _ends_of(y)]
    )
    return interval(*corners.aminmax(dim=0))


def _matrix_product(func: Rule, x: Tensor, y: Tensor) -> Tensor:
    if not isinstance(y, Bounds):
        return _scaled(torch.matmul, x, y)  # type: ignore[arg-type]
    if not isinstance(x, Bounds):
        return _scaled(lambda part, weight: weight @ part, y, x)
    if min(x.ndim, y.ndim) < 2:
        return refuse(func)
    return (x.unsqueeze(-1) * y.unsqueeze(-3)).sum(-2)


def _linear(func: Rule, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if isinstance(weight, Bounds) or isinstance(bias, Bounds) or not isinstance(x, Bounds):
        return refuse(func)
    result = _scaled(F.linear, x, weight)
    return result if bias is None else result + bias


# Nonlinear operations: intervals, but for inputs on which a ReLU is the identity.


def _relu(__: Rule, x: Bounds, **_: bool) -> Bounds:
    through = x.low >= 0
    ends = torch.stack([torch.zeros_like(x.low), x.high.clamp(min=0)])
    if not through.any() or len(x.parts) == 2:
        return Bounds(torch.stack([x.low.clamp(min=0), ends[1]]))
    cut = torch.cat([ends, torch.zeros_like(x.parts[2:])])
    return Bounds(x.parts.where(through, cut), x.sources)


def _rising(func: Rule, x: Bounds, *args: float, **kwargs: float) -> Bounds:
    if any(isinstance(value, Tensor) for value in (*args, *kwargs.values())):
        return refuse(func)
    low, high = (func(end, *args, **kwargs) for end in _ends_of(x))
    return interval(low, high.where(x.low != x.high, low))


def _magnitude(func: Rule, x: Bounds) -> Bounds:
    """|x| and x²: least where x is nearest to zero."""
    low, high = (func(end) for end in _ends_of(x))
    least = torch.minimum(low, high).masked_fill((x.low < 0) & (x.high > 0), 0)
    return interval(least, torch.maximum(low, high))


def _power(func: Rule, x: Any, exponent: Any) -> Bounds:
    if not isinstance(x, Bounds) or isinstance(exponent, Tensor) or exponent != 2:
        return refuse(func)
    return _magnitude(torch.square, x)


def _lerp(_: Rule, start: Any, end: Any, weight: Any) -> Any:
    """Within its ends, if the weight lies between 0 and 1: no interval is used twice."""
    start, end, weight = _numbers(start, end, weight)
    (a, b), (c, d), weights = _ends_of(start), _ends_of(end), _ends_of(weight)
    if not all(((w >= 0) & (w <= 1)).all() for w in weights):
        return start + weight * (end - start)
    lows = torch.stack([torch.lerp(a, c, w) for w in weights])
    highs = torch.stack([torch.lerp(b, d, w) for w in weights])
    low, high = lows.masked_fill(lows.isnan(), -inf), highs.masked_fill(highs.isnan(), inf)
    return interval(low.amin(0), high.amax(0))


def _where(func: Rule, *args: Any) -> Any:
    """The chosen value; the hull of both, where the condition is not known."""
    condition, x, y = args if func is torch.where else (args[1], args[0], args[2])
    if not isinstance(condition, Bounds):
        x, y = _numbers(x, y)
        return _additive(torch.where, condition, x, y)
    x, y, _ = _numbers(x, y, condition)
    (a, b), (c, d) = _ends_of(x), _ends_of(y)
    low, high = torch.minimum(a, c), torch.maximum(b, d)
    sure, never = condition.low > 0, condition.high <= 0
    low = a.where(sure, c.where(never, low))
    return interval(low, b.where(sure, d.where(never, high)))


def _compare(func: Rule, x: Any, y: Any) -> Bounds:
    """1 where it holds, 0 where not; from 0 to 1 where it depends."""
    (a, b), (c, d) = _ends_of(x), _ends_of(y)
    ends = [func(a, d), func(b, c)]
    return interval(*(ends if operation(func) in ("gt", "ge") else reversed(ends)))


_NAMES: dict[Rule, str] = {
    # properties of the shape alone
    lambda func, x, *args, **kwargs: func(x.parts[0], *args, **kwargs):
        "shape size ndim dim numel len dtype device is_floating_point requires_grad new_zeros "
        "new_ones new_full zeros_like ones_like full_like new_tensor",
    _additive:
        "flatten unflatten reshape view unbind split split_with_sizes chunk tensor_split getitem "
        "select narrow index_select index_copy transpose T mT permute movedim squeeze unsqueeze "
        "expand contiguous clone detach double sum mean",
    _rising:
        "sigmoid tanh exp softplus logsigmoid relu6 hardtanh hardsigmoid clamp clamp_min clamp_max",
    lambda func, x, negative_slope=0.01, *_, **__:
        _relu(func, x) - negative_slope * _relu(func, -x): "leaky_relu",
    _add: "add radd", _subtract: "sub subtract", _negate: "neg negative",
    _multiply: "mul multiply rmul", lambda func, x, y: _subtract(func, y, x): "rsub",
    lambda func, x, y: refuse(func) if isinstance(y, Bounds) else _multiply(func, x, 1 / y):
        "div divide true_divide truediv",
    _matrix_product: "matmul mm bmm", lambda func, x, y: _matrix_product(func, y, x): "rmatmul",
    _magnitude: "abs square", _compare: "gt ge lt le",
    lambda func, tensors, *args, **kwargs: _additive(func, _numbers(*tensors), *args, **kwargs):
        "cat concat stack",
    _linear: "linear", _relu: "relu", _power: "pow", _lerp: "lerp", _where: "where",
    lambda func, x, p, training, **_: refuse(func) if training else x: "dropout",
}  # fmt: skip

_words = [names.split() for names in _NAMES.values()]
OF_SHAPE, AFFINE = {*_words[0]}, {*_words[1], "add", "radd", "sub", "subtract", "rsub", "neg",
                                  "negative", "linear", "cat", "concat", "stack"}  # fmt: skip
"""Operations on the shape alone, and those that are affine in all of their numbers."""
_RULES = {name: rule for rule, names in _NAMES.items() for name in names.split()}

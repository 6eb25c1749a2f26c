"""A proven bound on the change of a logit over all inputs, by intervals of both models at once.

The small model computes what the large one does, with constants in the place of pruned neurons. So
both pass `score` together, as bounds of a number x of the large model and of the difference d of
the small one's. Through affine maps d stays as small as the pruned neurons make it, where bounds of
both models on their own would grow (Paulsen, Wang and Wang, ReluDiff, ICSE 2020).

Inputs are boxes: an interval of each dense column, and the smallest box around the vectors of some
ids of each field. The bound of a box falls as it is split, best first, at the input on which its
bound depends most. All is float64, see `bounds`; `SLACK` is more than its rounding.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from glassrec.artifacts import ChangeBound, PrunePlan
from glassrec.models.base import Inputs, Recommender
from glassrec.prune.guarantees.bounds import (
    AFFINE,
    OF_SHAPE,
    Bounds,
    Rule,
    interval,
    map_numbers,
    operation,
    refuse,
)

GROUPS, NUMBERS = 255, 1 << 25
"""Groups of ids of a field, and numbers of a layer that are computed at once; at most."""

RANDOM_ROWS, ROWS = 1 << 16, 1 << 13
"""Random rows that are measured, and how many of them pass a model at once."""

SLACK = 1e-9
"""By how much a bound is raised, relative to the largest |logit| within the box or to 1."""


class Zonotope(Bounds):
    """Bounds by symbols each of which lies between -1 and 1, which products and ReLUs keep, too
    (Singh et al., Fast and effective robustness certification, NeurIPS 2018).
    """

    def __new__(cls, parts: Tensor) -> Zonotope:
        """A tensor of bounds whose `parts` are low, high and the symbols."""
        return cast(Zonotope, super().__new__(cls, parts, [parts]))

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor]:
        reach = self.parts[2:].abs().sum(0)
        return self.parts[0] - reach, self.parts[1] + reach

    @classmethod
    def __torch_function__(
        cls, func: Rule, types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        if operation(func) == "relu":
            x = args[0]
            low, high = x.low.clamp(max=0), x.high.clamp(min=0)
            slope = (high / (high - low)).where(low < high, 0).detach()
            return x * slope + interval(torch.zeros_like(low), -slope * low)
        if operation(func) in ("mul", "rmul") and all(isinstance(each, cls) for each in args):
            x, y = args
            (a, b), (c, d) = (x.low, x.high), (y.low, y.high)
            left, right, most = (a + b) / 2, (c + d) / 2, (b - a) * (d - c) / 4
            return x * right + y * left - left * right + interval(-most, most)
        found = super().__torch_function__(func, types, args, kwargs)
        return tuple(map(_kept, found)) if isinstance(found, tuple) else _kept(found)


def _kept(value: Any) -> Any:
    known = isinstance(value, Bounds) and len(value.parts) > 2
    return Zonotope(value.parts) if known else value


class Change(Tensor):
    """Bounds of a number `x` of the large model, and of the difference `d` to the small one's."""

    x: Any
    d: Any

    def __new__(cls, x: Any, d: Any) -> Change:
        """A tensor of the shape of both, without values."""
        self = torch.empty(x.shape, device="meta").as_subclass(cls)
        self.x, self.d = x, d
        return self

    @classmethod
    def __torch_function__(
        cls, func: Rule, types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = operation(func), kwargs or {}
        if name in OF_SHAPE:
            return func(args[0].x, *args[1:], **kwargs)
        if name == "relu":
            return _relu(func, args[0])
        if name in ("mul", "matmul", "bmm") and all(isinstance(each, cls) for each in args):
            a, b = args
            return Change(func(a.x, b.x), func(a.x, b.d) + func(a.d, b.x + b.d))
        # A known number is the same in both models: it scales a difference, or adds nothing to it.
        scales = name in ("mul", "rmul", "div", "truediv", "matmul")
        if name not in AFFINE and not scales:
            return refuse(func)
        known = (lambda value: value) if scales else torch.zeros_like
        scalars = (int, float) if name in _ADDING else float  # other whole numbers are dimensions
        args = tuple(torch.tensor(float(a)) if isinstance(a, scalars) else a for a in args)
        both = (
            lambda value: value.x if isinstance(value, cls) else value,
            lambda value: value.d if isinstance(value, cls) else known(value),
        )
        if name == "linear":
            args, kwargs = (*args, *kwargs.values()), {}
            x, d = (func(side(args[0]), args[1], *map(side, args[2:])) for side in both)
        else:
            x, d = (func(*map_numbers(args, side), **kwargs) for side in both)
        return tuple(map(Change, x, d)) if isinstance(x, tuple) else Change(x, d)


_ADDING = ("add", "radd", "sub", "subtract", "rsub")


def _relu(func: Rule, value: Change) -> Change:
    """relu(x + d) - relu(x) - slope · d is linear between points of which the ends are taken."""
    x, d = value.x, value.d
    (a, b), (c, e), zero = (x.low, x.high), (d.low, d.high), torch.zeros_like(x.low)
    points = [(at, to) for at in (a, b, zero.clamp(a, b)) for to in (c, e)]
    points += [((-to).clamp(a, b), to) for to in (c, e)]
    points += [(at, (-at).clamp(c, e)) for at in (a, b)]
    at, to = map(torch.stack, zip(*points, (zero.clamp(a, b), zero.clamp(c, e)), strict=True))
    change = (at + to).relu() - at.relu()
    slope = (b.relu() / (b - a)).where((a < 0) & (b > 0), (a >= 0).double()).detach()
    alone, beside = change.aminmax(dim=0), (change - slope * to).aminmax(dim=0)
    use = beside.max - beside.min < alone.max - alone.min
    rest = [x.where(use, y) for x, y in zip(beside, alone, strict=True)]
    return Change(func(x), d * slope.where(use, 0) + interval(*rest))


class Boxes(NamedTuple):
    """N boxes of inputs, with D dense columns and F fields."""

    low: Tensor
    """(N, D)"""
    high: Tensor
    """(N, D)"""
    groups: Tensor
    """(N, F): of ids"""
    bound: Tensor
    """(N,): of |Δlogit| within the box"""
    widest: Tensor
    """(N,) below D + F: the input on which the bound depends most; -1 if there is none to split"""


class ChangeBounds:
    """Bounds of the change of any logit that a plan makes.

    Args:
        large: the model before pruning, in float64 and evaluation mode.
        plan: of pruning.

    Raises:
        ValueError: the model reads a history, or was fine-tuned after pruning.
    """

    def __init__(self, large: Recommender, plan: PrunePlan) -> None:
        if large.schema.history_length or plan.finetuned:
            why = "was fine-tuned after pruning" if plan.finetuned else "reads a history"
            raise ValueError(f"no bound of the change is known of a model that {why}")
        self.model, self.constants = large, dict[str, tuple[Tensor, Tensor]]()
        for name, layer in large.layers.items():
            known, units = plan.layers[name].constants, layer.units.tolist()
            values = torch.tensor([known.get(unit, 0.0) for unit in units], dtype=torch.float64)
            self.constants[name] = torch.tensor([unit in known for unit in units]), values
        # The ids of each field in a binary tree of groups, with the boxes around their vectors.
        self.roots, children, ends = list[int](), list[list[int]](), list[Tensor]()
        for field in large.schema.fields:
            self.roots.append(len(ends))
            vectors = large.table.vectors(field.name).detach()
            waiting = [torch.arange(len(vectors))]
            for own in waiting:  # which grows
                low, high = vectors[own].aminmax(dim=0)
                ends.append(torch.stack([low, high]))
                behind = self.roots[-1] + len(waiting)
                # The mean of several values lies among all of them, and not within a group.
                divide = (
                    field.values == 1 and len(waiting) + 2 <= GROUPS and bool((low < high).any())
                )
                children.append([behind, behind + 1] if divide else [-1, -1])
                if divide:
                    waiting += own[vectors[own, (high - low).argmax()].argsort()].tensor_split(2)
        self.children = torch.tensor(children).view(-1, 2)
        self.ends = torch.stack(ends)

    def bound(self, low: Tensor, high: Tensor, groups: Tensor) -> Boxes:
        """Bounds of |Δlogit| in each box, see `Boxes`."""
        vectors = self.ends[groups].movedim(2, 0)
        ends = torch.stack([low, high]), vectors
        radii = [((high - low) / 2).requires_grad_() for low, high in ends]
        empty = low.new_zeros(len(low), 0)
        with torch.enable_grad(), ExitStack() as stack:
            for name, layer in self.model.layers.items():
                hook = layer.activation_module.register_forward_hook(self._replacement(name))
                stack.callback(hook.remove)
            middle, radius = (
                torch.cat([each.flatten(1) for each in several], 1)
                for several in ([each.mean(0) for each in ends], radii)
            )
            symbols = torch.eye(radius.shape[1]).double().unsqueeze(1) * radius
            row = Zonotope(torch.cat([middle.expand(2, -1, -1), symbols]))
            numbers, vectors = row.split([low.shape[1], radius.shape[1] - low.shape[1]], 1)
            both = numbers, vectors.reshape(ends[1].shape[1:])
            numbers, vectors = (Change(x, x * 0) for x in both)
            inputs = Inputs(numbers, vectors, empty.unsqueeze(2), empty)
            logits = cast(Change, self.model.task_logits(inputs))
            size, bound = (
                torch.maximum(each.high, -each.low).amax(1) for each in (logits.x, logits.d)
            )
            slopes = torch.autograd.grad(bound.sum(), radii, materialize_grads=True)
        dense, fields = (slope * radius for slope, radius in zip(slopes, radii, strict=True))
        fields = fields.sum(2).masked_fill(self.children[groups, 0] < 0, 0)
        most, widest = torch.cat([dense, fields], 1).max(1)
        bound = bound.detach() + SLACK * size.detach().clamp(min=1)
        return Boxes(low, high, groups, bound, widest.where(most > 0, -1))

    def _replacement(self, name: str) -> Any:
        mask, constants = self.constants[name]

        def replaced(_: object, __: object, output: Change) -> Change:
            return Change(output.x, torch.where(mask, constants - output.x, output.d))

        return replaced

    @torch.no_grad()
    def tighten(self, low: Tensor, high: Tensor, boxes: int) -> tuple[float, int]:
        """The bound with dense columns between `low` and `high` (D,) and any ids, and how many
        boxes were bounded for it, at most `boxes`.
        """
        pool, count = self.bound(low[None], high[None], torch.tensor([self.roots])), 1
        symbols = len(low) + self.ends[0, 0].numel() * len(self.roots)
        widest = max(
            [len(mask) for mask, _ in self.constants.values()] + [symbols * len(self.roots)]
        )
        at_once = max(1, min(128, NUMBERS // (symbols * widest)))
        while count + 2 <= boxes and pool.widest[pool.bound.argmax()] >= 0:
            least = pool.bound.where(pool.widest >= 0, -1)
            most = min(at_once, (boxes - count) // 2, int((pool.widest >= 0).sum()))
            chosen = least.topk(most).indices
            rest = torch.ones_like(least, dtype=torch.bool).index_fill(0, chosen, False)
            halves = [self._half(Boxes(*(part[chosen] for part in pool)), side) for side in (0, 1)]
            pool = Boxes(*map(torch.cat, zip((part[rest] for part in pool), *halves, strict=True)))
            count += 2 * most
        return pool.bound.max().item(), count

    def _half(self, boxes: Boxes, side: int) -> Boxes:
        low, high, groups = (part.clone() for part in boxes[:3])
        rows, dense = torch.arange(len(low)), low.shape[1]
        numbers, fields = rows[boxes.widest < dense], rows[boxes.widest >= dense]
        at = numbers, boxes.widest[numbers]
        (low if side else high)[at] = (low[at] + high[at]) / 2
        at = fields, boxes.widest[fields] - dense
        groups[at] = self.children[groups[at], side]
        found = self.bound(low, high, groups)
        return found._replace(bound=torch.minimum(found.bound, boxes.bound))


@torch.no_grad()
def change_bound(
    large: Recommender, small: Recommender, plan: PrunePlan, dense: Tensor, boxes: int
) -> ChangeBound:
    """The bound of the change of any logit, and the largest change on random inputs.

    Args:
        large: the model before pruning, in float64 and evaluation mode.
        small: the pruned one, likewise.
        plan: what was pruned.
        dense: (2, D), the smallest and the largest values of the columns that the model reads.
        boxes: that are bounded, at most.

    Raises:
        ValueError: no bound is known, see `ChangeBounds`, or through an operation of `score`.
    """
    low, high = dense.double()
    bound, count = ChangeBounds(large, plan).tighten(low, high, boxes)
    draw = torch.Generator().manual_seed(0)
    found = 0.0
    for _ in range(0, RANDOM_ROWS, ROWS):
        numbers = low + (high - low) * torch.rand(ROWS, len(low), generator=draw).double()
        sizes = [field.size for field in large.schema.fields]
        ids = [torch.randint(size, (ROWS,), generator=draw) for size in sizes]
        scores = [model.task_logits(_inputs(model, numbers, ids)) for model in (large, small)]
        found = max(found, (scores[0] - scores[1]).abs().max().item())
    return ChangeBound(bound, count, RANDOM_ROWS, found)


def _inputs(model: Recommender, dense: Tensor, ids: list[Tensor]) -> Inputs:
    names, empty = model.schema.field_names, dense.new_zeros(len(dense), 0)
    vectors = [model.table.vectors(name)[own] for name, own in zip(names, ids, strict=True)]
    fields = torch.stack(vectors, 1) if ids else empty.view(len(dense), 0, 0)
    return Inputs(dense, fields, empty.unsqueeze(2), empty)

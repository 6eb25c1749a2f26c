"""Where the neurons of a layer are in each value of a graph: the layout of its numbers.

A layout follows neurons through operations on each number by itself, through moves, pooling and
reductions, as long as the same operations still fit when some of the neurons are gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from glassrec.imported.exported import ExportedModule, is_size, operation
from glassrec.imported.look_ups import MOVES

_ALONE = {
    "relu", "sigmoid", "tanh", "gelu", "silu", "leaky_relu", "elu", "selu", "celu", "hardtanh",
    "relu6", "softplus", "hardswish", "hardsigmoid", "mish", "threshold", "dropout", "clone",
    "alias", "contiguous", "neg", "abs", "exp", "pow", "clamp", "clamp_min", "add", "sub", "rsub",
    "mul", "div", "softsign", "logsigmoid", "square", "reciprocal", "maximum", "minimum", "to",
    "feature_dropout", "masked_fill", "where", "sqrt", "detach", "log_sigmoid", "log1p", "sign",
}  # fmt: skip
"""Operations on each number by itself, or on the numbers at one place of several values."""

_BY_COLUMN = {"batch_norm", "_native_batch_norm_legit_no_training", "prelu"}
"""Operations with a parameter for each column, along axis 1."""

_POOLS = {f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max")
          for n in (1, 2)}  # fmt: skip

_REDUCTIONS = {"sum", "mean", "amax", "amin", "max", "min", "logsumexp", "prod"}

_MIXING = {"layer_norm", "softmax", "log_softmax", "group_norm", "rms_norm", "instance_norm"}

MIXES = ", which mixes its neurons"
COUNTS = ", which needs all of them"
ROWS = 2
"""Of the values on which moves are tried."""


class Layout(NamedTuple):
    """Neurons along one axis of a value; they are the same all over its other axes."""

    axis: int
    ids: Tensor
    """(n,) the neuron of each number along the axis, −1 for none."""


class Use(NamedTuple):
    """An axis of a parameter, with a number or several for each neuron."""

    parameter: Node
    axis: int
    ids: Tensor
    is_weight: bool = False
    x: tuple[Node, int] | None = None
    """Where it reads neurons: the input of that operation, and the axis in this."""
    reader: Node | None = None
    zero: bool = False
    """Whether it cannot take over a constant other than zero."""
    cut: int | None = None
    """Of a table: the number of the look-up."""


class Step(NamedTuple):
    """What an operation does to layouts."""

    layouts: tuple[Layout | None, ...] = ()
    """Of its value, or of each of several; those of the inputs if it joins them."""
    uses: tuple[Use, ...] = ()
    mixed: bool = False
    """Whether it reads other values, that differ by row."""
    joins: bool = False
    why: str | None = None
    """The rest of the sentence that the operation is in the way."""


class LayoutRules:
    """Gives the layout of an operation's value from those of its inputs."""

    def __init__(self, exported: ExportedModule) -> None:
        self.exported = exported

    def after(self, node: Node, given: Mapping[Node, Layout]) -> Step:
        """The step of an operation without weights."""
        name = operation(node)
        if name in _ALONE:
            return self._alone(node, given)
        if name in MOVES:
            return self._move(node, given)
        (first, layout), *others = given.items()
        if not others and first is node.args[0]:
            if name in _BY_COLUMN:
                return self._by_column(node, layout)
            if name in _POOLS and layout.axis == 1:
                return Step((layout,))
            if name in _REDUCTIONS:
                return _reduction(node, layout)
        return Step(why=MIXES if name in _MIXING else "")

    def _shape(self, node: Node) -> list[int]:
        return [self.exported.size(n, ROWS) for n in node.meta["val"].shape]

    def _alone(self, node: Node, given: Mapping[Node, Layout]) -> Step:
        ndim, uses, mixed = node.meta["val"].ndim, [], False
        layouts = tuple(layout._replace(axis=layout.axis + ndim - each.meta["val"].ndim)
                        for each, layout in given.items())  # fmt: skip
        axis, ids = layouts[0]
        if {layout.axis for layout in layouts} != {axis}:
            return Step(why="")
        for each in node.all_input_nodes:
            if each in given or is_size(each):
                continue
            own = axis - ndim + each.meta["val"].ndim
            wide = own >= 0 and self._shape(each)[own] > 1
            if wide and each not in self.exported.state:
                return Step(why=", beside numbers that cannot be removed")
            uses += [Use(each, own, ids)] if wide else []
            mixed |= each not in self.exported.state and each not in self.exported.constants
        return Step(layouts, (*uses,), mixed, joins=True)

    def _by_column(self, node: Node, layout: Layout) -> Step:
        columns = [each for each in node.all_input_nodes[1:] if each.meta["val"].numel() > 1]
        training = operation(node) == "batch_norm" and node.args[5]
        if training or any(each not in self.exported.state for each in columns):
            return Step(why="")
        uses = tuple(Use(each, 0, layout.ids) for each in columns if layout.axis == 1)
        return Step(_values(node, layout), uses)

    def _move(self, node: Node, given: Mapping[Node, Layout]) -> Step:
        """The move is applied to neurons instead of values, also without some of these."""
        full: dict[Node, Any] = {}
        for each in node.all_input_nodes:
            if each in given:
                axis, ids = given[each]
                full[each] = _along(ids, axis, self._shape(each))
            elif is_size(each):
                full[each] = self.exported.size(each.meta["val"], ROWS)
            elif each in self.exported.constants:
                full[each] = self.exported.constants[each]
            elif each.meta["val"].is_floating_point():
                full[each] = torch.full(self._shape(each), -1)
            else:
                return Step(why=", which picks by numbers that are computed")
        own = [ids[ids >= 0] for _, ids in given.values()]
        ends = [ids[at : at + 1] for ids in own for at in (0, len(ids) - 1)]  # of slices
        try:
            found = _moved(node, full)
            layouts = [*map(_compressed, found)]
            for gone in (torch.cat(own).unique()[::2], *ends):
                less = full | {n: _without(full[n], given[n].axis, gone) for n in given}
                for layout, value, small in zip(layouts, found, _moved(node, less), strict=True):
                    if layout and not torch.equal(_without(value, layout.axis, gone), small):
                        return Step(why=COUNTS)
        except (RuntimeError, IndexError, ValueError):
            return Step(why=COUNTS)
        if any(
            value.max() >= 0 and not layout for value, layout in zip(found, layouts, strict=True)
        ):
            return Step(why=", which takes them apart")
        return Step(tuple(layouts))


def _values(node: Node, layout: Layout) -> tuple[Layout | None, ...]:
    """The layout, of the first of several values if there are some."""
    value = node.meta["val"]
    return (layout, *[None] * (len(value) - 1 if isinstance(value, (list, tuple)) else 0))


def _reduction(node: Node, layout: Layout) -> Step:
    args: list[Any] = [*node.args, None, None]
    given = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
    if not given or not isinstance(given[0], int):
        return Step(why=MIXES)
    dims = {dim % args[0].meta["val"].ndim for dim in given}
    kept = args[2] or node.kwargs.get("keepdim", False)
    below = 0 if kept else sum(dim < layout.axis for dim in dims)
    moved = layout._replace(axis=layout.axis - below)
    return Step(why=MIXES) if layout.axis in dims else Step(_values(node, moved))


def _moved(node: Node, values: Mapping[Node, Any]) -> Sequence[Tensor]:
    args, kwargs = map_arg((node.args, node.kwargs), lambda n: values[n])
    found = node.target(*args, **kwargs)  # type: ignore[operator]
    return [found] if isinstance(found, Tensor) else found


def _along(ids: Tensor, axis: int, shape: Sequence[int]) -> Tensor:
    return ids.view([-1 if a == axis else 1 for a in range(len(shape))]).expand(*shape)


def _without(value: Tensor, axis: int, gone: Tensor) -> Tensor:
    first = value.movedim(axis, 0).flatten(1)[:, 0]
    return value.index_select(axis, (~torch.isin(first, gone)).nonzero().flatten())


def _compressed(full: Tensor) -> Layout | None:
    """The layout of neurons at each place; None if there are none, or along several axes."""
    for axis in range(full.ndim):
        ids = full.movedim(axis, 0).flatten(1)[:, 0]
        if ids.amin() < ids.amax() and torch.equal(_along(ids, axis, full.shape), full):
            return Layout(axis, ids)
    return None

"""Operations with weights: which axes of parameters compute neurons, and which read them."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch.fx import Node

from glassrec.imported.exported import RECURRENT, ExportedModule, operation

CELLS = {"lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}


class Read(NamedTuple):
    """An axis of a weight with a column for each number along an axis of an input."""

    weight: Node
    axis: int
    x: Node
    x_axis: int
    zero: bool
    """Whether a constant other than zero cannot be folded: zeros are read beside it."""


class Weighted(NamedTuple):
    """An operation that computes neurons by weights."""

    axis: int
    """The axis of the neurons in its value."""
    own: tuple[tuple[Node, int], ...]
    """Weights and biases, or buffers that pick pairs, each with the axis of its neurons."""
    reads: tuple[Read, ...]
    bias: Node | None
    blocks: int = 1
    """How many rows a neuron has in each."""
    reason: str = ""
    """Why it cannot be pruned."""


def weighted(node: Node, exported: ExportedModule) -> Weighted | None:
    """The weights of an operation, if all of them are parameters; None if it is something else."""
    name, zero = operation(node), False
    args: Any = [*node.args, *[None] * 8]
    if name in RECURRENT or name in CELLS:
        return _recurrent(node)
    if name == "index":
        picks = [each for each in args[1] if each is not None]
        pairs = all(n in exported.state and n.meta["val"].ndim == 1 for n in picks)
        own = tuple((each, 0) for each in picks)
        return Weighted(1, own, (), None) if pairs and node.meta["val"].ndim == 2 else None
    if name not in ("linear", "conv1d", "conv2d", "addmm", "matmul", "mm"):
        return None
    ndim, given = node.meta["val"].ndim, args[1] in exported.state
    x, weight, bias, rows, axis = args[0], args[1], args[2], 0, ndim - 1
    if name.startswith("conv"):
        padding: Any = args[4] if isinstance(args[4], (list, tuple)) else [args[4] or 0]
        zero, axis = any(each not in (0, "valid") for each in padding), 1
        given = given and (args[6] or 1) == 1
    elif name == "addmm":
        bias, x, weight, rows = args[0], args[1], args[2], 1
    elif name in ("matmul", "mm"):
        rows, bias = 1, None
        if not given:
            x, weight, rows, axis = args[1], args[0], 0, ndim - 2
    parts: Any = [weight] if bias is None else [weight, bias]
    wide = ndim if name.startswith("conv") else 2
    states = all(each in exported.state for each in parts) and x not in exported.state
    if not states or (name[:4] == "conv" and not given) or x.meta["val"].ndim != ndim:
        return None
    if weight.meta["val"].ndim != wide:
        return None
    own = ((weight, rows), *((each, 0) for each in parts[1:]))
    return Weighted(axis, own, (Read(weight, 1 - rows, x, axis, zero),), bias)


def _recurrent(node: Node) -> Weighted:
    """Of one layer and direction; the states, of which the first is zero, are read, too."""
    args: Any = node.args
    reason = ""
    if operation(node) in CELLS:
        reason = "is called step by step"
    elif not isinstance(args[3], bool):
        reason = "reads histories of several lengths"
    elif args[4] != 1 or args[7] or len(args[2]) not in (2, 4):
        reason = "has several layers or directions, or a projection"
    elif any(
        operation(n) != "zeros" for n in (args[1] if isinstance(args[1], list) else args[1:2])
    ):
        reason = "starts with a state that is not zero"
    if reason:
        return Weighted(0, (), (), None, reason=reason)
    x, (weight_ih, weight_hh, *biases) = args[0], args[2]
    reads = Read(weight_ih, 1, x, 2, zero=False), Read(weight_hh, 1, node, 2, zero=True)
    own = tuple((each, 0) for each in args[2])
    return Weighted(2, own, reads, (*biases, None)[0], RECURRENT[operation(node)])

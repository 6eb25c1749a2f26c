"""The neurons of a graph: linear layers, what computes each neuron by itself, and what reads them.

A neuron can be pruned where all that reads its layer are linear layers, directly, side by side with
others, or through operations on each number by itself. Elsewhere the reason names the operation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.fx import Node

from glassrec.imported.exported import attribute, is_size, operation, place
from glassrec.imported.imported_model import ImportedModel
from glassrec.imported.neuron_layers import Function, ImportedLayer, LinearInput, shrink_module

_ALONE = {
    "relu", "sigmoid", "tanh", "gelu", "silu", "leaky_relu", "elu", "selu", "celu", "hardtanh",
    "relu6", "softplus", "hardswish", "hardsigmoid", "mish", "threshold", "dropout", "clone",
    "alias", "contiguous", "neg", "abs", "exp", "pow", "clamp", "clamp_min", "add", "sub", "rsub",
    "mul", "div", "prelu", "batch_norm", "_native_batch_norm_legit_no_training", "softsign",
    "<built-in function getitem>", "logsigmoid", "square", "reciprocal", "maximum", "minimum",
}  # fmt: skip
"""Operations on each number by itself, or by the parameters of its column."""


@dataclass
class _Group:
    """Linear operations whose neurons are one, and the nodes that compute each by itself."""

    linear: list[Node]
    start: Node
    """All later nodes are computed from this one: a linear operation, or the last that joins."""
    nodes: set[Node]
    others: list[str] = field(default_factory=list)
    """Parameters with a number for each neuron, besides those of the linear operations."""
    before: list[str] = field(default_factory=list)
    """Those up to the start."""

    def join(self, other: _Group, node: Node) -> None:
        """Take another group in; both are read by this node alone."""
        self.linear += other.linear
        self.nodes |= other.nodes
        self.others += other.others
        self.start, self.before = node, [*self.others]


class LayerFinder:
    """Finds the neurons of an imported model and gives it the layers to prune."""

    def __init__(self, model: ImportedModel) -> None:
        self.model, self.module, self.exported = model, model.module, model.graph.exported
        self.state: dict[Any, str] = {**self.exported.state}
        self.order = [node for node in model.graph.orders[1] if node.op == "call_function"]
        self.known = {*self.order}
        self.owner: dict[Node, _Group] = {}
        self.uses = Counter(id(self._parameter(each)) for node in self.exported.nodes
                            for each in node.all_input_nodes if each in self.state)  # fmt: skip
        self.linear = [node for node in self.order if self._is_layer(node)]

    def _parameter(self, node: Node) -> Tensor:
        return attribute(self.module, self.state[node])

    def _is_layer(self, node: Node) -> bool:
        if operation(node) != "linear" or node.meta["val"].ndim != 2:
            return False
        return all(each in self.state for each in node.args[1:] if each is not None)

    def add_layers(self) -> None:
        """Give the model its layers, by the path of their module, input side first."""
        for node in self.order:
            self._own(node)
        for group in {id(group): group for group in self.owner.values()}.values():
            point = self._point(group)
            if point is not self.exported.logit and point.meta["val"].shape[1] > 1:
                self._add(group, point)
        for linear in self.linear:
            self._register(linear)
        self.model.register_load_state_dict_pre_hook(shrink_module)

    def _own(self, node: Node) -> None:
        """Assign a node to the group of neurons that it computes each by itself, if to any."""
        if node in self.linear:
            self.owner[node] = _Group([node], node, {node})
        owned = [each for each in node.all_input_nodes if each in self.owner]
        own = [each for each in node.all_input_nodes if each in self.state]
        alone = operation(node) in _ALONE and len(owned) + len(own) == len(node.all_input_nodes)
        training = operation(node) == "batch_norm" and node.args[5]
        if node in self.linear or not owned or not alone or training:
            return
        widths = {_width(each) for each in owned}
        wide = [self.state[each] for each in own if self._parameter(each).numel() > 1]
        groups = list({id(self.owner[each]): self.owner[each] for each in owned}.values())
        read_alone = all(_readers(each) == [node] for each in owned) and all(
            self._exits(group) <= {*owned} for group in groups)  # fmt: skip
        shapes = {attribute(self.module, name).shape for name in wide}
        once = all(self.uses[id(attribute(self.module, name))] == 1 for name in wide)
        fits = once and shapes <= {(width,) for width in widths}
        if not fits or len(widths) > 1 or (len(groups) > 1 and not read_alone):
            return
        first, *more = groups
        for group in more:
            first.join(group, node)
        first.others += wide
        first.nodes.add(node)
        self.owner |= dict.fromkeys(first.nodes, first)

    def _exits(self, group: _Group) -> set[Node]:
        """The nodes of a group that others read."""
        return {node for node in group.nodes
                if node is self.exported.logit or {*_readers(node)} - group.nodes}  # fmt: skip

    def _point(self, group: _Group) -> Node:
        """Where the activations of a group are: its only exit, or its start."""
        exits = self._exits(group)
        if len(exits) == 1:
            return exits.pop()
        group.others = group.before
        return group.start

    def _add(self, group: _Group, point: Node) -> None:
        weights = [self.state[node.args[1]] for node in group.linear]
        others = [name for node in group.linear if (name := self._bias(node))] + group.others
        shared = filter(None, map(self._shared, group.linear))
        reason = next(chain(shared, self._stops(point)), None)
        layer = ImportedLayer(_width(point), self.module, weights + others, len(weights), reason)
        self.model.graph.points[point] = len(self.model.neurons)
        self.model.add_layer("+".join(name.removesuffix(".weight") for name in weights), layer)

    def _shared(self, node: Node) -> str | None:
        """Why the parameters of a linear operation cannot be cut, if others use them, too."""
        for each in node.all_input_nodes:
            if each in self.state and self.uses[id(self._parameter(each))] > 1:
                users = [n for n in self.exported.nodes if n is not node and any(
                    i in self.state and self._parameter(i) is self._parameter(each)
                    for i in n.all_input_nodes)]  # fmt: skip
                return f"{self.state[each]} is shared with {place((users or [node])[0])}"
        return None

    def _stops(self, node: Node) -> Iterator[str]:
        """Why inputs of what reads a node cannot be dropped."""
        if node is self.exported.logit:
            yield "it feeds the output"
        for user in _readers(node):
            if user in self.linear and user.args[0] is node:
                if reason := self._shared(user):
                    yield f"it feeds linear ({place(user)}), of which {reason}"
                elif self._bias(user) is None:
                    yield f"it feeds linear ({place(user)}), which has no bias for constants"
            elif user in self.known and (_parts(user) or _is_function(user)):
                yield from self._stops(user)
            else:
                yield f"it feeds {operation(user)} ({place(user)})"

    def _bias(self, linear: Node) -> str | None:
        """The name of the bias; PyTorch's own layer gets one of zeros if it has none."""
        if len(linear.args) > 2 and linear.args[2] is not None:
            return self.state[linear.args[2]]
        if linear not in self.exported.added:
            holder, _, _ = self.state[linear.args[1]].rpartition(".")
            part = self.module.get_submodule(holder)
            if not isinstance(part, nn.Linear) or part.bias is not None:
                return None
            part.bias = nn.Parameter(part.weight.new_zeros(part.out_features))
            self.exported.added[linear] = f"{holder}.bias".removeprefix(".")
        return self.exported.added[linear]

    def _register(self, linear: Node) -> None:
        """Tell the layers that a linear layer reads that it does."""
        layers = [*self.model.layers.values()]
        parts = [*self._layout(linear.args[0], ())]
        readers = [(part, layers[number]) for part, (number, _, _) in enumerate(parts)
                   if number is not None and layers[number].reason is None]  # fmt: skip
        bias = self._bias(linear)
        if readers and bias:
            names, widths = (self.state[linear.args[1]], bias), [part[1:] for part in parts]
            consumer = LinearInput(self.module, names, widths)
            self.model.consumers.append(consumer)
            for part, layer in readers:
                layer.register_consumer(consumer, part)

    def _layout(
        self, node: Any, path: tuple[Node, ...]
    ) -> Iterator[tuple[int | None, int, Function]]:
        """The parts of a linear layer's input: its neurons if any, width and function."""
        if node in self.model.graph.points or node not in self.known:
            yield self.model.graph.points.get(node), _width(node), _function(path)
        elif parts := _parts(node):
            for each in parts:
                yield from self._layout(each, path)
        elif _is_function(node):
            yield from self._layout(node.args[0], (node, *path))
        else:
            yield None, _width(node), _function(())


def _readers(node: Node) -> list[Node]:
    """The operations that read a node's numbers, also those that the output does not depend on."""
    return [user for user in node.users if user.op == "call_function" and not is_size(user)
            and not operation(user).startswith("_assert")]  # fmt: skip


def _width(node: Node) -> int:
    """The numbers of a row, also of the tuple that a batch norm gives."""
    value = node.meta["val"]
    return int((value[0] if isinstance(value, (tuple, list)) else value).shape[-1])


def _parts(node: Node) -> Any:
    """The nodes that a node lays side by side, none if it does something else."""
    dim = [*node.args[1:], node.kwargs.get("dim", 0)][:1]
    wide = operation(node) == "cat" and node.meta["val"].ndim == 2 and dim[0] in (1, -1)
    return node.args[0] if wide else ()


def _is_function(node: Node) -> bool:
    """Whether each number of the result is a function of one number of the only input."""
    single = node.all_input_nodes == [node.args[0]] and node.args[0] not in node.args[1:]
    return operation(node) in _ALONE - {"<built-in function getitem>"} and single


def _function(path: tuple[Any, ...]) -> Function:
    """The operations on the way, for the constants (U,) of neurons."""

    def apply(values: Tensor) -> Tensor:
        for node in path:
            values = node.target(values, *node.args[1:], **node.kwargs)
        return values

    return apply

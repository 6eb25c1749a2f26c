"""The layers of an imported model: neurons that weights compute, and the weights that read them.

A neuron can be pruned where all that reads it are weights with columns for it, on ways that keep
it apart from others. Elsewhere the reason names the operation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from glassrec.imported.exported import RECURRENT, attribute, operation, place
from glassrec.imported.imported_model import ImportedModel
from glassrec.imported.layouts import Layout, LayoutRules, Use
from glassrec.imported.look_ups import batch_axis, look_up
from glassrec.imported.neuron_groups import Group, NeuronGroups, computes, feeds, readers
from glassrec.imported.neuron_layers import (
    ImportedLayer,
    ParameterAxis,
    WeightInputs,
    shrink_module,
)
from glassrec.imported.split_graph import Point
from glassrec.imported.weighted import Weighted, weighted


class LayerFinder:
    """Finds the neurons of an imported model and gives it the layers to prune."""

    def __init__(self, model: ImportedModel) -> None:
        self.model, self.module, self.exported = model, model.module, model.graph.exported
        self.rules, self.found = LayoutRules(self.exported), NeuronGroups()
        self.state: dict[Any, str] = {**self.exported.state}
        self.known = {*model.graph.orders[1]}
        self.users = Counter(id(self._parameter(each)) for node in self.exported.nodes
                             for each in node.all_input_nodes if each in self.state)  # fmt: skip
        self.uses: list[Use] = []
        self.mixed: set[Node] = set()

    def add_layers(self) -> None:
        """Give the model its layers, by the path of their module, input side first."""
        cuts = [cut.node for cut in self.model.graph.split.cuts]
        for number, node in enumerate(cuts):
            self._look_up(node, number)
        for node in self.exported.nodes:
            if computes(node) and node not in cuts:
                self._visit(node)
        owners = torch.full((2, len(self.found.group_of)), -1)
        for number, group in enumerate(self.found.groups):
            ids = self.found.members(number)
            if len(ids) and not group.looked_up:
                self._add(number, group, ids, owners)
        for use in self.uses:
            own = owners[:, self.found.resolve(use.ids)].where(use.ids >= 0, -1)
            if (own[0] >= 0).any():
                self._connect(use, own)
        self.model.register_load_state_dict_pre_hook(shrink_module)

    def _parameter(self, node: Node) -> Tensor:
        return attribute(self.module, self.state[node])

    # Where neurons are

    def _look_up(self, node: Node, number: int) -> None:
        """The numbers of looked-up vectors are neurons where they are multiplied."""
        call, axis = look_up(node), node.meta["val"].ndim - 1
        if call and call[1] in self.state and axis > 0 and node.meta["val"].shape[axis] > 1:
            group = Group(node, [self.state[call[1]]], looked_up=True)
            ids = self.found.add(group, node.meta["val"].shape[axis])
            self.found.layouts[node] = (Layout(axis, ids),)
            self._use(Use(call[1], 1, ids, is_weight=True, cut=number), node)

    def _visit(self, node: Node) -> None:
        given = {each: layout for each in node.all_input_nodes
                 if (layout := self.found.layout(each)) is not None}  # fmt: skip
        several = [
            each for each in node.all_input_nodes if len(self.found.layouts.get(each, ())) > 1
        ]
        if several:
            self._pick(node, self.found.layouts[several[0]])
        elif weights := weighted(node, self.exported):
            self._weighted(node, weights, given)
        elif given:
            self._follow(node, given)
        if node is self.exported.logit:
            self._stop(filter(None, [self.found.layout(node)]), "it feeds the output")

    def _pick(self, node: Node, several: tuple[Layout | None, ...]) -> None:
        """One of several values."""
        picked = several[node.args[1]] if "getitem" in operation(node) else None  # type: ignore
        self.found.layouts[node] = (picked,)
        if picked is None and node.users:
            self._stop(filter(None, several), feeds(node))

    def _follow(self, node: Node, given: Mapping[Node, Layout]) -> None:
        step = self.rules.after(node, given)
        why = self.found.join(node, filter(None, step.layouts)) if step.joins else step.why
        if why is not None:
            self._stop(given.values(), feeds(node, why))
            return
        self.found.layouts[node] = step.layouts[:1] if step.joins else step.layouts
        for use in step.uses:
            self._use(use, node, reads=True)
        self.mixed |= {node} if step.mixed else set()

    def _weighted(self, node: Node, found: Weighted, given: Mapping[Node, Layout]) -> None:
        if node not in self.known or found.reason:
            self._stop(given.values(), feeds(node, found.reason and f", which {found.reason}"))
            return
        (weight, rows), *_ = found.own
        size = weight.meta["val"].shape[rows] // found.blocks
        if size > 1:
            ids = self.found.add(Group(node, [self.state[weight]], looked_up=False), size)
            layout = Layout(found.axis, ids)
            self.found.layouts[node] = (layout,)
            if isinstance(node.meta["val"], (tuple, list)):  # all states, the last, and others
                self.found.layouts[node] = (layout, layout, *[None] * (len(node.meta["val"]) - 2))
            for each, axis in found.own:
                use = Use(
                    each,
                    axis,
                    ids.repeat(found.blocks),
                    is_weight=each is not found.bias and bool(found.reads),
                )
                self._use(use, node)
            self._read(node, found, {**given, node: layout})
        else:
            self._read(node, found, given)

    def _read(self, node: Node, found: Weighted, given: Mapping[Node, Layout]) -> None:
        """Note the weights that read neurons, and stop those that something else reads."""
        for weight, axis, x, x_axis, zero in found.reads:
            if (layout := given.get(x)) and layout.axis == x_axis:
                use = Use(weight, axis, layout.ids, True, (x, x_axis), node, zero)
                self._use(use, node, reads=True)
        read = {(read.x, read.x_axis) for read in found.reads}
        others = [
            n for n, layout in given.items() if (n, layout.axis) not in read and n is not node
        ]
        self._stop((given[each] for each in others), feeds(node))

    def _use(self, use: Use, node: Node, *, reads: bool = False) -> None:
        """Note an axis of a parameter; or why it cannot be cut."""
        own, name = self._parameter(use.parameter), self.state[use.parameter]
        others = [n for n in self.exported.nodes if n is not node and any(
            each in self.state and self._parameter(each) is own
            for each in n.all_input_nodes)] if self.users[id(own)] > 1 else []  # fmt: skip
        why = ""
        if self.users[id(own)] > 1:
            why = f"{name} is shared with {place((others or [node])[0])}"
        elif isinstance(self.module.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention):
            why = f"{name} is of a MultiheadAttention, all parts of which are as wide as its input"
        if not why:
            self.uses.append(use)
        else:
            self.found.stop(use.ids, feeds(node, f", of which {why}") if reads else why)

    def _stop(self, layouts: Iterable[Layout], reason: str) -> None:
        for layout in layouts:
            self.found.stop(layout.ids, reason)

    # The layers

    def _add(self, number: int, group: Group, ids: Tensor, owners: Tensor) -> None:
        point, layout = self._point(number, group, ids)
        if point is self.exported.logit:
            return
        later = {*self.found.carriers(number)} - {*self.exported.cone([point], ())}
        for node in (node for node in self.exported.nodes if node in later & self.mixed):
            self.found.stop(ids, feeds(node, ", after which constants differ by row"))
        model, recurrent = self.model, operation(point) in RECURRENT
        layer = ImportedLayer(
            len(ids), model, len(model.neurons), group.reason or None, recurrent=recurrent
        )
        batch = batch_axis(self.exported, point)
        model.graph.points[point] = Point(len(model.neurons), layout.axis, batch)
        if not group.reason:
            owners[:, ids] = torch.stack([torch.full_like(ids, len(model.neurons)), ids.argsort()])
        short = (name.removesuffix("_ih_l0").removesuffix(".weight") for name in group.names)
        model.add_layer("+".join(short), layer)

    def _point(self, number: int, group: Group, ids: Tensor) -> tuple[Node, Layout]:
        """The value with each neuron once: the only one that others read, or the first."""
        pure = {}
        for node in self.found.carriers(number):
            layout = self.found.layouts[node][0]
            alone = layout and torch.equal(self.found.resolve(layout.ids), ids)
            if layout and alone and group.start in self.exported.cone([node], ()):
                pure[node] = layout
        exits = [node for node in pure
                 if node is self.exported.logit or {*readers(node)} - {*pure}]  # fmt: skip
        recurrent = operation(group.start) in RECURRENT
        point = exits[0] if len(exits) == 1 and not recurrent else group.start
        return point, pure[point]

    def _connect(self, use: Use, owners: Tensor) -> None:
        """Give the model an axis of a parameter, and tell the layers that it reads."""
        number, name = len(self.model.axes), self.state[use.parameter]
        if use.cut is not None:
            self.model.graph.narrowed[use.cut] = number
        axis = ParameterAxis(self.module, name, use.axis, owners, is_weight=use.is_weight)
        if use.reader and use.x:
            bias = self._bias(use.reader)
            axis = WeightInputs(self.module, name, use.axis, owners, bias,
                                zero=use.zero or bias is None,
                                recurrent=use.x[0] is use.reader)  # fmt: skip
            self.model.graph.inputs[number] = use.x
            for layer in owners[0][owners[0] >= 0].unique().tolist():
                self.model.neurons[layer].register_consumer(axis, layer)
        self.model.axes.append(axis)

    def _bias(self, node: Node) -> str | None:
        """The name of the bias; PyTorch's own layer gets one of zeros if it has none."""
        found = weighted(node, self.exported)
        assert found
        if found.bias is not None:
            return self.state[found.bias]
        holder, _, _ = self.state[found.own[0][0]].rpartition(".")
        part = self.module.get_submodule(holder)
        can_have = isinstance(part, (nn.Linear, nn.Conv1d, nn.Conv2d))
        if node not in self.exported.added and can_have and part.bias is None:
            part.bias = nn.Parameter(part.weight.new_zeros(len(part.weight)))
            self.exported.added[node] = f"{holder}.bias".removeprefix(".")
        return self.exported.added.get(node)

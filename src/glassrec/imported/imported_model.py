"""A module from elsewhere as a recommender: `embed` up to its look-ups, `score` from there."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional as F

from glassrec.data.batch import Batch
from glassrec.data.schema import ABSENT, Field, Schema, Target, TaskKind
from glassrec.imported.exported import ExportedModule, attribute, call
from glassrec.imported.look_ups import (
    Bag,
    batch_axis,
    by_row,
    count_rows,
)
from glassrec.imported.neuron_layers import ImportedLayer, ParameterAxis, WeightInputs
from glassrec.imported.split_graph import Point, SplitGraph
from glassrec.models.base import Inputs, Recommender

UNKNOWN_SIZE = 2**40
"""Ids of a field: a module does not say which of a table's rows are whose."""


class ImportedTables(nn.Module):
    """The place of the joint table; the tables themselves are the module's own, of any width."""

    read: Tensor

    def __init__(self, module: nn.Module, table: str, fields: int, width: int) -> None:
        super().__init__()
        self._source = (module, table)  # a tuple, so that the module is not registered twice
        self.register_buffer("read", torch.ones(fields, width, dtype=torch.bool))

    @property
    def weight(self) -> Tensor:
        """The largest table, or another parameter of a module without tables."""
        return attribute(*self._source)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of all tables."""
        return self.weight.dtype

    def narrow(self, read: Tensor) -> None:
        """Nothing: the module's own tables stay as they are."""

    def unseen(self) -> Tensor:
        """ValueError: the ids of other libraries have no unseen one."""
        raise ValueError("an imported model has no unseen ids; take explain.baseline=mean or zero")

    def vectors(self, field: str) -> Tensor:
        """ValueError: which rows a field may look up is not known."""
        raise ValueError(
            f"which ids {field} can have is not known of an imported model; take prune.level=data"
        )

    stored = vectors


class ImportedModel(Recommender):
    """A module behind the seam of all recommenders.

    Each look-up of an id is a part of a field's vector: two look-ups of one id lie side by side,
    and all fields are padded with zeros to the widest. What is pooled by its own ids, such as the
    mean of a padded list, is one vector. `Batch` holds the module's inputs as they are: integers
    in `ids`, others in `dense`, each tensor flattened to (B, columns), behind them the first ids
    of all bags, the second ones, and so on, −1 where there is none, and their weights.

    Args:
        module: in evaluation mode; it belongs to this model from here on.
        graph: of it.
        kind: of the tasks.
    """

    _spread: Tensor
    _read: Tensor

    def __init__(self, module: nn.Module, graph: SplitGraph, kind: TaskKind = "click") -> None:
        logit = graph.exported.logit.meta["val"]
        tasks = 1 if logit.ndim == 1 else int(logit[0].numel())
        targets = tuple(Target("label" if tasks == 1 else f"task{k}", kind) for k in range(tasks))
        fields = tuple(Field(name, UNKNOWN_SIZE) for name in graph.field_names())
        dense = tuple(graph.names[column] for column in graph.split.dense)
        schema, width = Schema(dense, fields, targets), graph.width
        tables = ImportedTables(module, _largest(module, graph), len(fields), width)
        super().__init__(schema, schema, width, tables)
        self.module, self.graph = module, graph
        self.neurons, self.axes = nn.ModuleList(), nn.ModuleList()
        self.names: dict[str, int] = {}
        spread = torch.full((len(graph.names),), len(dense))
        spread[list(graph.split.dense)] = torch.arange(len(dense))
        read = torch.tensor(graph.split.dense, dtype=torch.long)
        for name, index in {"spread": spread, "read": read}.items():
            self.register_buffer(f"_{name}", index, persistent=False)
        self.sample = self._encode({n: graph.example[n] for n in graph.exported.leaves.values()})
        self.sample = self.sample.slice(0, 2)

    @property
    def layers(self) -> dict[str, ImportedLayer]:  # type: ignore[override]
        """The neurons by the path of their module, input side first."""
        return {name: cast(ImportedLayer, self.neurons[n]) for name, n in self.names.items()}

    def add_layer(self, name: str, layer: ImportedLayer) -> None:
        """Add neurons under a name that is free."""
        while name in self.names:
            name += "'"
        self.names[name] = len(self.neurons)
        self.neurons.append(layer)

    def encode(self, batch: Any) -> Batch:
        """The inputs of the module as rows, with targets of zero."""
        exported = self.graph.exported
        return self._encode(exported.inputs(call(self.module, batch).named))

    def _encode(self, values: dict[Node, Any]) -> Batch:
        exported, bags = self.graph.exported, self.graph.split.bags
        rows = count_rows(exported, values)
        for name, node in exported.leaves.items():
            found = tuple(values[node].shape)
            shape = tuple(exported.size(n, rows) for n in node.meta["val"].shape)
            if node in self.graph.stored and found != shape:
                raise ValueError(f"{name} has the shape {found}; {rows} rows need {shape}")
        ids, dense = [torch.empty(rows, 0, dtype=torch.long)], [torch.empty(rows, 0)]
        for node in self.graph.stored:
            value = by_row(exported, node, values[node], rows).reshape(rows, -1)
            (dense if value.is_floating_point() else ids).append(value.cpu())
        exported.run(exported.cone(self.graph.bagged, values), values, self.module, rows)
        padded = [_padded(bag, values, rows) for bag in bags]
        for into, parts, fill in ((ids, [p for p, _ in padded], ABSENT),
                                  (dense, [w for _, w in padded if w is not None], 0)):  # fmt: skip
            longest = max((part.shape[1] for part in parts), default=0)
            each = [F.pad(part, (0, longest - part.shape[1]), value=fill) for part in parts]
            into += [torch.stack(each, 2).flatten(1).cpu()] if parts else []
        targets, history = torch.zeros(rows, len(self.schema.targets)), ids[0]
        return Batch(torch.cat(dense, 1), torch.cat(ids, 1).long(), history, targets)

    def embed(self, batch: Batch) -> Inputs:
        """The vectors of a batch: dense (B, D), fields (B, F, E)."""
        exported, rows = self.graph.exported, batch.rows
        values = self.input_values(batch)
        order = [node for node in self.graph.orders[0] if node not in values]
        exported.run(order, values, self.module, rows)
        cuts = [by_row(exported, cut.node, values[cut.node], rows).reshape(rows, -1)
                for cut in self.graph.split.cuts]  # fmt: skip
        weight = self.table.weight
        fields = weight.new_zeros(rows, len(self.schema.fields) * self.width)
        fields = fields.index_copy(1, torch.cat(self._places()), torch.cat(cuts, 1).to(weight))
        fields = fields.unflatten(1, (-1, self.width))
        numbers = []
        for node, columns in self.graph.split.columns.items():
            if node in self.graph.stored:
                value = by_row(exported, node, values[node], rows)
                numbers.append(value.reshape(rows, -1).to(weight.dtype))
            else:  # of bags, or not read
                numbers.append(weight.new_zeros(rows, len(columns.unique())))
        dense = torch.cat(numbers, 1).index_select(1, self._read)
        steps = fields.new_zeros(rows, 0)
        return Inputs(dense, fields, steps.unsqueeze(2).expand(-1, -1, self.width), steps)

    def score(self, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        values = self._values(inputs)
        return cast(Tensor, values[self.graph.exported.logit]).reshape(inputs.rows, -1)

    @torch.no_grad()
    def set_constants(self, layer: ImportedLayer, constants: Tensor) -> None:
        """Note what arrives at the weights that read a layer while it is at `constants` (U,)."""
        layer.override = constants
        try:
            values = self._values(self.embed(self.sample.to(self.device)))
        finally:
            layer.override = None
        for number, (node, axis) in self.graph.inputs.items():
            weight = cast(WeightInputs, self.axes[number])
            if (weight.owners[0] == layer.number).any():
                value = values[node][0] if isinstance(values[node], tuple) else values[node]
                weight.set_constants(value.movedim(axis, -1))

    def _places(self) -> list[Tensor]:
        """By cut, the positions of its remaining numbers in the fields (F · E)."""
        found = [place.to(self.device) for place in self.graph.places]
        for cut, number in self.graph.narrowed.items():
            built = self.graph.example[self.graph.split.cuts[cut].node].shape[-1]
            axis = cast(ParameterAxis, self.axes[number])
            found[cut] = found[cut].view(-1, built)[:, axis.owners[2]].flatten()
        return found

    def _values(self, inputs: Inputs) -> dict[Node, Any]:
        """The values of all operations of the score."""
        graph, rows = self.graph, inputs.rows
        values: dict[Node, Any] = {}
        columns = F.pad(inputs.dense, (0, 1)).index_select(1, self._spread)
        sizes = [len(each.unique()) for each in graph.split.columns.values()]
        for node, part in zip(graph.split.columns, columns.split(sizes, 1), strict=True):
            if batch_axis(graph.exported, node) is not None:
                values[node] = _as_node(graph.exported, node, part, rows)
        flat = inputs.fields.flatten(1)
        for cut, places in zip(graph.split.cuts, self._places(), strict=True):
            part = flat.index_select(1, places)
            values[cut.node] = _as_node(graph.exported, cut.node, part, rows)
        order = [node for node in graph.orders[1] if node not in values]
        points = {
            node: partial(self._activate, point, rows) for node, point in graph.points.items()
        }
        return graph.exported.run(order, values, self.module, rows, points)

    def _activate(self, point: Point, rows: int, value: Any) -> Any:
        """A value whose activations pass their layer, (B, U) at each position."""
        if isinstance(value, tuple):  # a recurrent layer: all states, the last one, and others
            states = cast(Tensor, self._activate(point, rows, value[0]))
            last = states.select(1 - cast(int, point.batch), -1)
            return states, last.unsqueeze(0), *value[2:]
        layer = self.neurons[point.layer]
        if value.ndim == 2 and point == (point.layer, 1, 0):
            return layer(value)
        batch = 0 if point.batch is None else point.batch - (point.axis < point.batch)
        moved = value.movedim(point.axis, -1).movedim(batch, 0)
        each = moved.reshape(rows, -1, moved.shape[-1]).unbind(1)
        found = torch.stack([layer(part) for part in each], 1).view(moved.shape)
        found = found.movedim(0, batch).movedim(-1, point.axis)
        return found.contiguous() if value.is_contiguous() else found

    def input_values(self, batch: Batch) -> dict[Node, Any]:
        """The values of the inputs and of the bags' ids, from rows."""
        exported, values = self.graph.exported, dict[Node, Any]()
        at = {True: 0, False: 0}
        for node in self.graph.stored:
            like = node.meta["val"]
            is_float, count = like.is_floating_point(), len(self.graph.split.columns[node].unique())
            part = (batch.dense if is_float else batch.ids)[:, at[is_float] : at[is_float] + count]
            at[is_float] += count
            dtype = self.table.weight.dtype if like.dtype == exported.dtype else like.dtype
            values[node] = _as_node(exported, node, part.to(dtype), batch.rows)
        if not self.graph.split.bags:
            return values
        weighted = [bag.weights for bag in self.graph.split.bags if bag.weights is not None]
        ids = batch.ids[:, at[False] :].unflatten(1, (-1, len(self.graph.split.bags))).unbind(2)
        for bag, own in zip(self.graph.split.bags, ids, strict=True):
            ends = (own != ABSENT).sum(1).cumsum(0)
            values[bag.ids] = own[own != ABSENT]
            values[bag.offsets] = F.pad(ends if bag.last else ends[:-1], (1, 0))
            if bag.weights is not None:
                weights = batch.dense[:, at[True] + weighted.index(bag.weights) :: len(weighted)]
                weights = F.pad(weights, (0, own.shape[1] - weights.shape[1]))[own != ABSENT]
                values[bag.weights] = weights.to(self.table.weight.dtype)
        return values


def _as_node(exported: ExportedModule, node: Node, part: Tensor, rows: int) -> Tensor:
    """Values (B, n) in the shape that the node has in the graph, perhaps narrower at the end."""
    axis = batch_axis(exported, node)
    shape = [exported.size(n, rows) for n in node.meta["val"].shape]
    if part.numel() < torch.Size(shape).numel():
        shape[-1] = part.numel() // torch.Size(shape[:-1]).numel()
    if axis is None:
        return part.reshape(shape)
    moved = [rows, *(n for a, n in enumerate(shape) if a != axis)]
    return part.reshape(moved).movedim(0, axis)


def _padded(bag: Bag, values: Mapping[Node, Any], rows: int) -> tuple[Tensor, Tensor | None]:
    """(B, L) the ids of each row, padded by −1, and their weights, padded by 0."""
    ids, offsets = values[bag.ids], values[bag.offsets]
    ends = torch.cat([offsets[1:rows], offsets.new_tensor([len(ids)])])
    counts = ends - offsets[:rows]
    there = torch.arange(int(counts.max()), device=ids.device) < counts.unsqueeze(1)
    found = torch.full(there.shape, ABSENT, device=ids.device).to(ids.dtype)
    found[there] = ids
    if bag.weights is None:
        return found, None
    weights = values[bag.weights]
    return found, weights.new_zeros(there.shape).masked_scatter(there, weights)


def _largest(module: nn.Module, graph: SplitGraph) -> str:
    """The name of the largest table, or of the first parameter if there is none."""
    tables = {cut.table for cut in graph.split.cuts}
    sizes = {name: p.numel() for name, p in module.named_parameters() if name in tables}
    return max(sizes, key=sizes.__getitem__) if sizes else next(iter(module.named_parameters()))[0]

"""The graph of a module in two, and where each number of a row is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import Node

from glassrec.imported.exported import ExportedModule, call, export_module
from glassrec.imported.look_ups import CutGraph, LookUpFinder, by_row, column_names, count_rows


class Point(NamedTuple):
    """Where the activations of a layer are: its number, their axis, and that of the rows if any."""

    layer: int
    axis: int
    batch: int | None


@dataclass(frozen=True)
class SplitGraph:
    """The graph of a module in two parts, and where each number of `Inputs` goes."""

    exported: ExportedModule
    split: CutGraph
    names: Mapping[int, str]
    """Of the columns."""
    sizes: Mapping[tuple[int, ...], int]
    """By field, given by its columns: the length of its vector."""
    places: tuple[Tensor, ...]
    """By cut: the position of each of its numbers in the fields (F · E)."""
    example: Mapping[Node, Any]
    points: dict[Node, Point] = field(default_factory=dict)
    """The neurons by the node of their activations."""
    inputs: dict[int, tuple[Node, int]] = field(default_factory=dict)
    """By number of the axis of a weight that reads neurons: its input, and the axis in that."""
    narrowed: dict[int, int] = field(default_factory=dict)
    """By number of the cut: that of the axis of its table with neurons."""

    def __deepcopy__(self, memo: object) -> SplitGraph:
        return self  # copies of a model compute the same

    @property
    def width(self) -> int:
        """E."""
        return max(self.sizes.values(), default=1)

    @cached_property
    def bagged(self) -> list[Node]:
        """The ids, offsets and weights of bags."""
        return [node for bag in self.split.bags for node in bag[:3] if isinstance(node, Node)]

    @cached_property
    def orders(self) -> tuple[list[Node], list[Node]]:
        """The operations up to the cuts, inputs included, and from there to the logits."""
        cuts = [cut.node for cut in self.split.cuts]
        return self.exported.cone(cuts, self.bagged), self.exported.cone(
            [self.exported.logit], cuts
        )

    @cached_property
    def stored(self) -> list[Node]:
        """The inputs that rows hold as they are; those of bags are held as their ids."""
        read = {*self.orders[0], *self.orders[1]}
        return [node for node in self.exported.leaves.values() if node in read]

    def field_names(self) -> list[str]:
        """The name of each field: that of its column, or of its input if it is all of it."""
        whole = {tuple(columns.unique().tolist()): name
                 for name, node in self.exported.leaves.items()
                 for columns in (self.split.columns[node],)}  # fmt: skip
        return [whole.get(source) or "+".join(self.names[column] for column in source)
                for source in self.sizes]  # fmt: skip


def split_graph(module: nn.Module, batch: Any) -> SplitGraph:
    """Export a module in evaluation mode and split it at its look-ups.

    Raises:
        UnsupportedModelError: it cannot be exported or split.
    """
    exported = export_module(module, batch)
    leaves = exported.inputs(call(module, batch).named)
    rows = count_rows(exported, leaves)
    with torch.no_grad():
        example = exported.run(exported.cone(exported.nodes, leaves), {**leaves}, module, rows)
    split = LookUpFinder(exported, example, rows).split()
    sizes: dict[tuple[int, ...], int] = {}
    places: list[list[tuple[tuple[int, ...], int, int]]] = []
    for cut in split.cuts:
        numbers = by_row(exported, cut.node, example[cut.node], rows)[0].numel()
        each = numbers // len(cut.sources)
        places.append([])
        for source in cut.sources:
            start = sizes.get(source, 0)
            sizes[source] = start + each
            places[-1].append((source, start, each))
    sizes = dict(sorted(sizes.items()))  # fields in the order of the inputs
    width, index = max(sizes.values(), default=1), {source: i for i, source in enumerate(sizes)}
    positions = tuple(
        torch.cat([torch.arange(each) + index[source] * width + start for source, start, each in p])
        for p in places
    )
    names = column_names(exported, split.columns)
    return SplitGraph(exported, split, names, sizes, positions, example)

"""Neurons of a graph by group: those of one operation, or of several that are joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from glassrec.imported.exported import is_size, operation, place
from glassrec.imported.layouts import Layout


@dataclass
class Group:
    """Neurons that are pruned together.

    Attributes:
        start: all values that are read elsewhere are computed from this one.
        names: of the weights that compute them.
        looked_up: whether they are numbers of looked-up vectors and nothing else.
        reason: why none can be pruned.
    """

    start: Node
    names: list[str]
    looked_up: bool
    reason: str = ""


class NeuronGroups:
    """All neurons, numbered through, and the layouts of the values that they are in."""

    def __init__(self) -> None:
        self.layouts: dict[Node, tuple[Layout | None, ...]] = {}
        self.groups: list[Group] = []
        self.group_of = torch.empty(0, dtype=torch.long)
        """The number of each neuron's group."""
        self._same = torch.empty(0, dtype=torch.long)
        """The neuron that each is joined to, or itself."""

    def add(self, group: Group, size: int) -> Tensor:
        """The numbers (U,) of new neurons."""
        ids = torch.arange(len(self._same), len(self._same) + size)
        self.group_of = torch.cat([self.group_of, torch.full((size,), len(self.groups))])
        self._same = torch.cat([self._same, ids])
        self.groups.append(group)
        return ids

    def resolve(self, ids: Tensor) -> Tensor:
        """Neurons by the ones that they are joined to; −1 stays."""
        return self._same[ids].where(ids >= 0, -1) if len(self._same) else ids

    def members(self, number: int) -> Tensor:
        """(U,) the neurons of a group, in order; none once it is joined to another."""
        ids = self._same.unique()
        return ids[self.group_of[ids] == number]

    def layout(self, node: Node) -> Layout | None:
        """The layout of a single value; None if no neuron is in it."""
        found = self.layouts.get(node, ())
        if len(found) != 1 or found[0] is None:
            return None
        return Layout(found[0].axis, self.resolve(found[0].ids))

    def carriers(self, number: int) -> Iterator[Node]:
        """The nodes with neurons of a group."""
        for node, layouts in self.layouts.items():
            each = [self.resolve(layout.ids) for layout in layouts if layout]
            if any((self.group_of[ids[ids >= 0]] == number).any() for ids in each):
                yield node

    def join(self, node: Node, layouts: Iterable[Layout]) -> str | None:
        """Let the neurons at one place of several values be one; or why they cannot be."""
        first, *others = (self.resolve(layout.ids) for layout in layouts)
        for ids in others:
            pairs = torch.stack([self.resolve(first), self.resolve(ids)])
            if torch.equal(*pairs):
                continue
            groups = self.group_of[pairs].unique().tolist() if pairs.min() >= 0 else []
            if sorted(len(self.members(each)) for each in groups) != [pairs.shape[1]] * 2 or any(
                len(each.unique()) < len(each) for each in pairs
            ):
                return ", beside numbers that cannot be removed"
            if not all(self._only_read_by(node, each) for each in groups):
                return ", with numbers that are also read elsewhere"
            self._merge(node, *pairs)
        return None

    def _only_read_by(self, node: Node, number: int) -> bool:
        carriers = {*self.carriers(number)}
        return all({*readers(each)} <= {*carriers, node} for each in carriers)

    def _merge(self, node: Node, kept: Tensor, gone: Tensor) -> None:
        into, other = (self.groups[int(self.group_of[ids[0]])] for ids in (kept, gone))
        self.group_of[gone] = self.group_of[kept]
        renamed = torch.arange(len(self._same)).index_copy(0, gone, kept)
        self._same = renamed[self._same]
        into.start, into.looked_up = node, False
        into.names += other.names
        into.reason = into.reason or other.reason

    def stop(self, ids: Tensor, reason: str) -> None:
        """Note why neurons, and all of their groups, cannot be pruned."""
        for number in self.group_of[self.resolve(ids[ids >= 0])].unique().tolist():
            self.groups[number].reason = self.groups[number].reason or reason


def feeds(node: Node, why: str = "") -> str:
    """That an operation is in the way, and its line."""
    return f"it feeds {operation(node)} ({place(node)}){why}"


def computes(node: Node) -> bool:
    """Whether a node is an operation on numbers, and no size or assertion."""
    checks = node.op != "call_function" or operation(node).startswith("_assert")
    return not checks and not is_size(node)


def readers(node: Node) -> list[Node]:
    """The operations that read a node's numbers, also those that the output does not depend on."""
    return [user for user in node.users if computes(user)]

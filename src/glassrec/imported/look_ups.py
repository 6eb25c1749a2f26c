"""Where a graph looks ids up: each look-up's ids by column, and paths around the look-ups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from glassrec.imported.exported import ExportedModule, UnsupportedModelError, operation, place
from glassrec.spelling import listed

MOVES = {
    "view", "reshape", "_unsafe_view", "select", "slice", "squeeze", "unsqueeze", "permute",
    "transpose", "t", "flatten", "unflatten", "expand", "cat", "stack", "split",
    "split_with_sizes", "chunk", "unbind", "clone", "contiguous", "alias", "detach", "detach_",
    "repeat", "narrow", "<built-in function getitem>", "index_select", "index", "hstack",
}  # fmt: skip
"""Operations that only move numbers."""

_KEEPS = {"to", "_to_copy", "type_as", "add", "sub", "clamp", "clamp_min", "clamp_max", "remainder"}
"""Operations after which a number still stands for the same column, if the rest is constant."""

_SORTS = {"sort", "argsort", "topk", "kthvalue", "msort", "unique", "_unique2", "median", "mode"}

_SHAPES = {"new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like",
           "empty_like"}  # fmt: skip
"""Operations that read the shape of a tensor and none of its numbers."""

_TABLE_ARGUMENT = {"embedding": (0, 1), "embedding_bag": (0, 1), "index": (0, 1),
                   "index_select": (0, 2)}  # fmt: skip
"""Of each kind of look-up, the positions of the table and of the ids."""


class Cut(NamedTuple):
    """A value at which the graph is split, (B, ...): a look-up, or vectors pooled by their ids."""

    node: Node
    sources: tuple[tuple[int, ...], ...]
    """The columns of the inputs that each of its equally long pieces comes from."""
    table: str
    """The name of the table, or the line of the pooling."""


class Bag(NamedTuple):
    """The ids of an `embedding_bag` with offsets, any number for each row."""

    ids: Node
    offsets: Node
    weights: Node | None
    last: bool
    """Whether the offsets end with the number of ids."""


@dataclass(frozen=True)
class CutGraph:
    """A graph in two: up to the `cuts`, and from them and the `dense` columns to the logits."""

    cuts: tuple[Cut, ...]
    bags: tuple[Bag, ...]
    dense: tuple[int, ...]
    columns: Mapping[Node, Tensor]
    """The columns of each input, in the shape of the input in the example."""


class _Value(NamedTuple):
    kind: str
    """raw: an input, moved; ids: computed from ids alone; vector: looked up, or pooled by its own
    ids; score: anything else."""
    columns: frozenset[int]


def number_columns(exported: ExportedModule, example: Mapping[Node, Tensor]) -> dict[Node, Tensor]:
    """A number for each column of the inputs, in the shape of these; the same in all rows."""
    found, start = {}, 0
    for node in exported.leaves.values():
        shape = node.meta["val"].shape
        across = batch_axis(exported, node)
        if across is None:
            across = max(len(shape) - 1, 0)  # ids of bags: any number of them
        sizes = [1 if axis == across else n for axis, n in enumerate(example[node].shape)]
        count = torch.Size(sizes).numel()
        found[node] = torch.arange(start, start + count).view(sizes).expand(example[node].shape)
        start += count
    return found


def batch_axis(exported: ExportedModule, node: Node) -> int | None:
    """The axis of a node's value whose size is the number of rows."""
    value = node.meta["val"]
    for axis, size in enumerate((value[0] if isinstance(value, tuple) else value).shape):
        if isinstance(size, torch.SymInt) and size.node.expr == exported.rows:
            return axis
    return None


def count_rows(exported: ExportedModule, values: Mapping[Node, Any]) -> int:
    """The number of rows of these inputs."""
    axes = {node: batch_axis(exported, node) for node in exported.leaves.values()}
    found = (values[node].shape[axis : axis + 1] for node, axis in axes.items() if axis is not None)
    return next((size[0] for size in found if size), 0)


def by_row(exported: ExportedModule, node: Node, value: Tensor, rows: int) -> Tensor:
    """The value as (B, ...).

    Raises:
        UnsupportedModelError: no axis is that of the rows.
    """
    axis = batch_axis(exported, node)
    if axis is not None:
        return value.movedim(axis, 0)
    size = node.meta["val"].shape[0] if value.ndim else None
    if isinstance(size, torch.SymInt) and size.node.expr.has(exported.rows):
        return value.reshape(rows, -1)  # rows and columns in one axis
    raise UnsupportedModelError(f"{operation(node)} ({place(node)}) has no value for each row")


class LookUpFinder:
    """Finds the look-ups of a graph, from the operations and an example of its values."""

    def __init__(self, exported: ExportedModule, example: Mapping[Node, Any], rows: int) -> None:
        self.exported, self.example, self.rows = exported, example, rows
        self.origin: dict[Node, Any] = dict(number_columns(exported, example))
        self.columns = {node: self.origin[node] for node in exported.leaves.values()}
        self.order = [
            node for node in exported.cone([exported.logit], ())
            if not isinstance(node.meta.get("val"), (torch.SymInt, int))
        ]  # fmt: skip
        self.reads: dict[Node, frozenset[int]] = {}
        self.tables: dict[Node, str] = {}
        self.calls: dict[Node, tuple[Node, Node]] = {}
        self.ids: set[int] = set()
        self.bags: dict[Node, Bag] = {}
        for node in self.order:
            self._trace(node)

    def _inputs(self, node: Node) -> list[Node]:
        return [each for each in node.all_input_nodes if self.reads.get(each)]

    def _trace(self, node: Node) -> None:
        """Follow the columns of the inputs through a node, and note it if it is a look-up."""
        if node in self.origin:
            self.reads[node] = frozenset(self.origin[node].unique().tolist())
            return
        inputs = [] if operation(node) in _SHAPES else self._inputs(node)
        self.reads[node] = frozenset().union(*(self.reads[each] for each in inputs))
        if inputs and all(each in self.origin for each in inputs):
            self._move(node, inputs)
            if isinstance(self.origin.get(node), Tensor):
                self.reads[node] = frozenset(self.origin[node].unique().tolist())
        found = look_up(node)
        if found is None or not inputs or not _floats(self.example[node]):
            return
        call, table, ids = found
        if self.reads[table] or not self.reads[ids]:
            return
        self.origin.pop(node, None)
        self.calls[node] = (call, ids)
        self.tables[node] = self.exported.state.get(table, operation(table))
        self.ids |= self.reads[ids]
        if operation(call) == "embedding_bag" and self.example[ids].ndim == 1:
            self.bags[node] = _bag(call, ids)

    def _move(self, node: Node, inputs: list[Node]) -> None:
        """Apply a move to the numbers of columns instead of the values."""
        name, value = operation(node), self.example[node]
        tensors = [each for each in node.all_input_nodes if each in self.reads]
        picks = name in ("index", "index_select") and inputs == [node.args[0]]
        if name in MOVES and (tensors == inputs or picks):
            args, kwargs = map_arg(
                (node.args, node.kwargs), lambda n: self.origin.get(n, self.example.get(n))
            )
            self.origin[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        elif name in _KEEPS and len(inputs) == 1 and value.dtype != torch.bool:
            self.origin[node] = self.origin[inputs[0]].broadcast_to(value.shape)

    def split(self) -> CutGraph:
        """The look-ups that the score starts from, and the dense columns that it reads.

        Raises:
            UnsupportedModelError: an id reaches the logits without a look-up, or rows are sorted.
        """
        kinds: dict[Node, _Value] = {}
        cuts: dict[Node, Cut] = {}
        for node in self.order:
            kinds[node] = self._kind(node, kinds, cuts)
        if kinds[self.exported.logit].kind in ("raw", "ids"):
            raise UnsupportedModelError("the logit is computed without a look-up or a weight")
        order = self.exported.cone([self.exported.logit], cuts)
        for node in order:
            if operation(node) in _SORTS and self.reads.get(node):
                raise UnsupportedModelError(
                    f"{operation(node)} ({place(node)}) puts numbers in an order that depends on "
                    "their values, so that no column can be followed to the logit; move it into "
                    "the preparation of the inputs"
                )
        scored = [n for n in order if n in kinds and kinds[n].kind not in ("raw", "ids")]
        read = {each for node in scored for each in self._inputs(node) if kinds[each].kind == "raw"}
        dense = tuple(sorted({column for each in read for column in kinds[each].columns}))
        wanted = {*order, self.exported.logit}
        used = [cut for node, cut in cuts.items() if node is self.exported.logit
                or not wanted.isdisjoint(node.users)]  # fmt: skip
        needed = {*self.exported.cone([cut.node for cut in used], ())}
        bags = tuple(bag for node, bag in self.bags.items() if node in needed)
        return CutGraph(tuple(used), bags, dense, self.columns)

    def _kind(self, node: Node, kinds: Mapping[Node, _Value], cuts: dict[Node, Cut]) -> _Value:
        reads = self.reads[node]
        if not reads or node in self.origin:
            return _Value("raw", reads)
        if node in self.tables:
            cut = cuts[node] = Cut(node, self._sources(node), self.tables[node])
            return _Value("vector", frozenset(c for source in cut.sources for c in source))
        if operation(node) == "embedding_bag":
            return _Value("ids", reads)
        inputs = self._inputs(node)
        raw = [n for n in inputs if kinds[n].kind in ("raw", "ids") and kinds[n].columns & self.ids]
        others = [n for n in inputs if n not in raw]
        if not raw:
            vectors = {kinds[n].columns for n in others if kinds[n].kind == "vector"}
            weights = any(n in self.exported.state for n in node.all_input_nodes)
            only = all(kinds[n].kind == "vector" for n in others)
            pure = len(vectors) == 1 and only and not weights
            return _Value("vector", *vectors) if pure else _Value("score", reads)
        if not others:
            return _Value("ids", reads)
        own = frozenset().union(*(kinds[n].columns for n in raw))
        if all(kinds[n].kind == "vector" and kinds[n].columns == own for n in others):
            cuts[node] = Cut(node, (tuple(sorted(own)),), place(node))
            return _Value("vector", own)
        names = [column_names(self.exported, self.columns)[c] for c in sorted(own & self.ids)]
        raise UnsupportedModelError(
            f"{operation(node)} ({place(node)}) reads {listed(names)} "
            "beside its look-up, so that attributions of the vectors would miss this path; look "
            "the id up for it, or compute it outside the model"
        )

    def _sources(self, node: Node) -> tuple[tuple[int, ...], ...]:
        """The columns of each piece of a look-up."""
        call, ids = self.calls[node]
        origin = self.origin.get(ids)
        if origin is None:
            return (tuple(sorted(self.reads[ids])),)
        if node in self.bags:
            return (tuple(origin.unique().tolist()),)
        first = by_row(self.exported, ids, origin, self.rows)[0]
        if operation(call) == "embedding_bag":
            return (tuple(first.flatten().tolist()),)
        return tuple((column,) for column in first.flatten().tolist())


def column_names(exported: ExportedModule, columns: Mapping[Node, Tensor]) -> dict[int, str]:
    """A name for each column: that of the tensor if it has one, `dense[3]` otherwise."""
    found: dict[int, str] = {}
    for name, node in exported.leaves.items():
        own = columns[node].unique().tolist()
        found |= {c: name if len(own) == 1 else f"{name}[{i}]" for i, c in enumerate(own)}
    return found


def look_up(node: Node) -> tuple[Node, Node, Node] | None:
    """The call, the table and the ids, if a node's value is looked up."""
    call = node
    if operation(node) == "<built-in function getitem>" and node.args[1] == 0:
        call = node.args[0]  # type: ignore[assignment]  # the first result of an embedding bag
    name = operation(call)
    if name not in _TABLE_ARGUMENT or (name == "embedding_bag") != (call is not node):
        return None
    table, ids = (call.args[position] for position in _TABLE_ARGUMENT[name])
    if isinstance(ids, (list, tuple)):
        ids = ids[0] if len(ids) == 1 else None
    by_rows = name != "index_select" or call.args[1] == 0
    return (call, table, ids) if isinstance(ids, Node) and by_rows else None  # type: ignore


def _bag(call: Node, ids: Node) -> Bag:
    given = [*call.args, *[None] * 8]
    weights, last = (call.kwargs.get(n, given[p]) for n, p in
                     (("per_sample_weights", 6), ("include_last_offset", 7)))  # fmt: skip
    return Bag(ids, given[2], weights, bool(last))  # type: ignore[arg-type]


def _floats(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()

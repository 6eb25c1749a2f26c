"""A module as a graph of ATen operations, run on any rows, in any precision and on any device."""

from __future__ import annotations

import inspect
import re
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.fx.node import map_arg

_TORCH = str(Path(torch.__file__).parent)
NONE: Mapping[Node, nn.Module] = {}
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in \S+\n\s*(.*)')


class UnsupportedModelError(ValueError):
    """A module cannot be split into look-ups and a score; the message names operation and line."""


def place(node: Node) -> str:
    """The user's line that an operation comes from: `model.py:17, x = x.sort()`."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if not frame[0].startswith(_TORCH)] or frames
    if not own:
        return "a line that PyTorch does not name"
    file, line, code = own[-1]
    return f"{Path(file).name}:{line}, {code.strip()}"


def operation(node: Node) -> str:
    """`sort` for `aten.sort.default`."""
    return str(getattr(node.target, "overloadpacket", node.target)).removeprefix("aten.")


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of nested tuples, lists and dicts, with names: `ids`, `sparse[2]`, `user.age`."""
    if isinstance(value, Tensor):
        yield name or "input", value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from flatten(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (tuple, list)):
        for number, each in enumerate(value):
            yield from flatten(each, f"{name}[{number}]")


def arguments(module: nn.Module, batch: Any) -> dict[str, Any]:
    """The arguments of `forward` by name: a tuple gives them in order, a dict perhaps by name."""
    signature = inspect.signature(module.forward)
    named = isinstance(batch, Mapping) and all(name in signature.parameters for name in batch)
    given = batch if isinstance(batch, tuple) else () if named else (batch,)
    try:
        bound = signature.bind(*given, **(batch if named else {}))
    except TypeError as error:
        name = type(module).__name__
        raise UnsupportedModelError(f"the batch does not fit {name}.forward: {error}") from None
    return dict(bound.arguments)


def named_tensors(module: nn.Module, batch: Any) -> list[tuple[str, Tensor]]:
    """The tensors of a batch in order; a single dict's have the names of its keys."""
    given = arguments(module, batch)
    if len(given) == 1 and isinstance(next(iter(given.values())), Mapping):
        return [*flatten(next(iter(given.values())))]
    return [pair for name, value in given.items() for pair in flatten(value, name)]


@dataclass(frozen=True)
class ExportedModule:
    """The graph of a module in evaluation mode, without its final sigmoid.

    Attributes:
        nodes: the operations in order.
        leaves: the placeholders of the inputs, by the names of the tensors.
        state: the parameter or buffer of other placeholders, as `tower.0.weight`.
        constants: tensors that the module's code makes.
        logit: the node of the logits.
        removed: the operations behind it that are left out.
        rows: the symbol of the number of rows in shapes.
        dtype: of the module's parameters when it was exported.
        added: by linear operation without bias, the name of the bias that it was given.
    """

    nodes: tuple[Node, ...]
    leaves: Mapping[str, Node]
    state: Mapping[Node, str]
    constants: Mapping[Node, Tensor]
    logit: Node
    removed: tuple[str, ...]
    rows: Any
    dtype: torch.dtype
    added: dict[Node, str] = field(default_factory=dict)

    def cone(self, wanted: Iterable[Node], stop: Iterable[Node]) -> list[Node]:
        """The nodes that `wanted` are computed from, in order, up to those of `stop`."""
        found, known, todo = set[Node](), {*stop}, [*wanted]
        while todo:
            node = todo.pop()
            if node not in known and node not in found:
                found.add(node)
                todo += [] if is_size(node) else node.all_input_nodes
        return [node for node in self.nodes if node in found]

    def run(
        self, order: Sequence[Node], values: dict[Node, Any], module: nn.Module, rows: int,
        points: Mapping[Node, nn.Module] = NONE,
    ) -> dict[Node, Any]:  # fmt: skip
        """Compute the nodes in order; values of `points` pass these modules."""
        like = next(module.parameters())
        for node in order:
            value = self._value(node, values, module, rows, like)
            values[node] = points[node](value) if node in points else value
        return values

    def _value(
        self, node: Node, values: dict[Node, Any], module: nn.Module, rows: int, like: Tensor
    ) -> Any:
        if is_size(node):
            return self.size(node.meta["val"], rows)
        if node in self.state:
            return attribute(module, self.state[node])
        if node in self.constants:
            constant = self.constants[node].to(like.device)
            return constant.to(like.dtype) if constant.dtype == self.dtype else constant
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: values[n])
        if node in self.added:
            args = (*args[:2], attribute(module, self.added[node]))
        return node.target(*self._here(args, like), **self._here(kwargs, like))  # type: ignore[operator]

    def size(self, size: Any, rows: int) -> int:
        """A size of so many rows; a width that export left open is that of the example."""
        expression = size.node.expr if isinstance(size, torch.SymInt) else None
        if expression is None or expression.free_symbols != {self.rows}:
            return int(size)
        return rows if expression == self.rows else int(expression.subs(self.rows, rows))

    def _here(self, value: Any, like: Tensor) -> Any:
        """Arguments in the precision and on the device of the parameters."""
        if isinstance(value, (list, tuple)):
            return type(value)(self._here(each, like) for each in value)
        if isinstance(value, dict):
            return {name: self._here(each, like) for name, each in value.items()}
        here = like.dtype if value is self.dtype else value
        return like.device if isinstance(here, torch.device) else here


def is_size(node: Node) -> bool:
    """Whether the node is a number computed from sizes."""
    return isinstance(node.meta.get("val"), (torch.SymInt, int)) and node.op == "call_function"


def attribute(module: nn.Module, path: str) -> Tensor:
    """The parameter or buffer `tower.0.weight` of a module."""
    holder, _, name = path.rpartition(".")
    return getattr(module.get_submodule(holder), name)


def export_module(module: nn.Module, batch: Any) -> ExportedModule:
    """Export a module in evaluation mode, for any number of rows.

    Raises:
        UnsupportedModelError: its code depends on values, or on the number of rows.
    """
    given = arguments(module, batch)
    if not any(parameter.is_floating_point() for parameter in module.parameters()):
        raise UnsupportedModelError(f"{type(module).__name__} has no parameters to explain")
    with torch.no_grad():
        output = module(**given)
    if not isinstance(output, Tensor) or output.ndim == 0:
        raise UnsupportedModelError(
            f"{type(module).__name__}.forward returns {type(output).__name__}, and not one tensor "
            "of a score for each row; wrap a module that returns that"
        )
    if len(output) < 2:
        raise UnsupportedModelError("the example has one row; give a batch of two rows or more")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch, about its own classes
            program = _exported(module, given, len(output))
    except Exception as error:
        raise UnsupportedModelError(_why(module, error)) from error
    return _read(program, module, [name for name, _ in named_tensors(module, batch)])


def _exported(module: nn.Module, given: Mapping[str, Any], rows: int) -> ExportedProgram:
    """The program, in which no operation changes a tensor in place."""
    program = export(module, (), dict(given), dynamic_shapes=_open(given, rows))
    called = [operation(n) for n in program.graph.nodes if n.op == "call_function"]
    in_place = any(n.endswith("_") and not n.endswith("__") and n != "detach_" for n in called)
    return program.run_decompositions({}) if in_place else program


def _open(given: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Which sizes may differ between batches: those of rows, and the numbers of ids in bags."""

    def each(value: Any) -> Any:
        if isinstance(value, Tensor):
            whole = not value.is_floating_point() or value.ndim == 1
            return {d: Dim.AUTO for d, n in enumerate(value.shape) if whole or n == rows}
        if isinstance(value, Mapping):
            return {name: each(part) for name, part in value.items()}
        return type(value)(map(each, value)) if isinstance(value, (list, tuple)) else None

    return {name: each(value) for name, value in given.items()}


def _why(module: nn.Module, error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((_TORCH, __file__))]
    at = [f"{Path(f.filename).name}:{f.lineno}, {(f.line or '').strip()}" for f in own]
    where, text = at[-1] if at else "its code", " ".join(str(error).split())
    if "data-dependent" in text.lower():
        text = "control flow depends on the values of a tensor; use torch.where"
    return f"{type(module).__name__} cannot be exported, at {where}: {text[:300]}"


def _read(program: Any, module: nn.Module, names: Sequence[str]) -> ExportedModule:
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    state, constants, inputs = {}, {}, []
    for spec in program.graph_signature.input_specs:
        node = placeholders[spec.arg.name]
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            state[node] = spec.target
        elif spec.kind is InputKind.CONSTANT_TENSOR:
            constants[node] = program.constants[spec.target]
        elif isinstance(node.meta.get("val"), Tensor):
            inputs.append(node)
    end = next(node for node in program.graph.nodes if node.op == "output").args[0][-1]
    logit, removed = _without_sigmoid(program.graph, end)
    found = logit.meta["val"].shape[0]
    if not isinstance(found, torch.SymInt):
        raise UnsupportedModelError(
            f"{type(module).__name__} works for {found} rows only: a size is fixed in its code, "
            "as int(x.shape[0]) or len(x) does; leave it to PyTorch: x.view(x.shape[0], -1)"
        )
    dtype = next(p.dtype for p in module.parameters() if p.is_floating_point())
    unused = {*placeholders.values()} - {*state, *constants, *inputs}  # None, or numbers
    nodes = tuple(n for n in program.graph.nodes if n.op != "output" and n not in unused)
    leaves = dict(zip(names, inputs, strict=True))
    return ExportedModule(nodes, leaves, state, constants, logit, removed, found.node.expr, dtype)


_RESHAPING = {"squeeze", "view", "reshape", "flatten", "unsqueeze", "clone", "contiguous"}


def _without_sigmoid(graph: Any, end: Node) -> tuple[Node, tuple[str, ...]]:
    """The logits, and the sigmoid that is left out; shapes of one row stay as they are."""
    node = end
    while operation(node) in _RESHAPING and isinstance(node.args[0], Node):
        node = node.args[0]
    if operation(node) == "sigmoid" and isinstance(node.args[0], Node):
        return node.args[0], (f"sigmoid ({place(node)})",)
    return end, ()

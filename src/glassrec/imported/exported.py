"""A module as a graph of ATen operations, run on any rows, in any precision and on any device."""

from __future__ import annotations

import inspect
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.fx.node import map_arg

from glassrec.spelling import listed

_TORCH = str(Path(torch.__file__).parent)
NONE: Mapping[Node, Any] = {}
RECURRENT = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Recurrent operations, and how many blocks of rows their weights have."""

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


class Call(NamedTuple):
    """How `forward` is called with a batch."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    named: dict[str, Any]
    """All of them by the names of the arguments; those of `*args` are a tuple."""
    signature: inspect.Signature
    """That of `forward`, in which those of `**kwargs` are named: PyTorch exports no others."""


def call(module: nn.Module, batch: Any) -> Call:
    """The arguments of `forward`: a tuple gives them in order, a dict by name where it fits.

    Raises:
        UnsupportedModelError: the batch does not fit.
    """
    signature = inspect.signature(module.forward)
    args: tuple[Any, ...] = batch if isinstance(batch, tuple) else (batch,)
    kwargs: dict[str, Any] = {}
    if isinstance(batch, Mapping):
        with suppress(TypeError):  # other names, or keys that are no names
            args, kwargs = (), signature.bind(**batch).arguments
    try:
        named = kwargs or signature.bind(*args).arguments
    except TypeError as error:
        name = type(module).__name__
        raise UnsupportedModelError(f"the batch does not fit {name}.forward: {error}") from None
    known = {name: p for name, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
    for rest in signature.parameters.keys() - known.keys():
        more = kwargs.pop(rest, {})
        kwargs |= more
        known |= {name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in more}
    return Call(args, kwargs, named, signature.replace(parameters=[*known.values()]))


def named_tensors(named: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of the arguments in order; those of a single dict have the names of its keys."""
    given = [*named.values()]
    return dict(flatten(given[0] if len(given) == 1 and isinstance(given[0], Mapping) else named))


@dataclass(frozen=True)
class ExportedModule:
    """The graph of a module in evaluation mode, without its final sigmoid.

    Attributes:
        nodes: the operations in order.
        leaves: the placeholders of the inputs, by the names of the tensors.
        state: the parameter or buffer of other placeholders, as `tower.0.weight`.
        constants: tensors that the module's code makes.
        output: the node that the module returns.
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
    output: Node
    logit: Node
    removed: tuple[str, ...]
    rows: Any
    dtype: torch.dtype
    added: dict[Node, str] = field(default_factory=dict)

    def inputs(self, named: Mapping[str, Any]) -> dict[Node, Any]:
        """The tensors of arguments by their node; ValueError if they are not the example's."""
        found = named_tensors(named)
        if found.keys() != self.leaves.keys():
            names = f"holds {listed(found or ['no tensor'])}, and the example {listed(self.leaves)}"
            raise ValueError(f"a batch {names}; give all in the structure of the example")
        return {node: found[name] for name, node in self.leaves.items()}

    def cone(self, wanted: Iterable[Node], stop: Iterable[Node], sizes: bool = False) -> list[Node]:
        """The nodes that `wanted`, and perhaps sizes, are computed from, in order, after `stop`."""
        found, known, todo = set[Node](), {*stop}, [*wanted]
        while todo:
            node = todo.pop()
            if node not in known and node not in found:
                found.add(node)
                todo += node.all_input_nodes if sizes or not is_size(node) else []
        return [node for node in self.nodes if node in found]

    def run(
        self, order: Sequence[Node], values: dict[Node, Any], module: nn.Module,
        rows: int | None, points: Mapping[Node, Callable[[Any], Any]] = NONE,
    ) -> dict[Node, Any]:  # fmt: skip
        """Compute the nodes in order, without `rows` also sizes; `points` pass these functions."""
        like = next(module.parameters())
        for node in order:
            try:
                value = self._value(node, values, module, rows, like)
            except (RuntimeError, IndexError) as error:
                raise UnsupportedModelError(
                    f"{operation(node)} ({place(node)}): {error}"
                ) from error
            values[node] = points[node](value) if node in points else value
        return values

    def _value(
        self, node: Node, values: dict[Node, Any], module: nn.Module, rows: int | None, like: Tensor
    ) -> Any:
        if rows is not None and is_size(node):
            return self.size(node.meta["val"], rows)
        if node in self.state:
            return attribute(module, self.state[node])
        if node in self.constants:
            constant = self.constants[node].to(like.device)
            return constant.to(like.dtype) if constant.dtype == self.dtype else constant
        args: Any
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: values[n])
        if node in self.added:
            args = (*args[:2], attribute(module, self.added[node]), *args[3:])
        if operation(node) in RECURRENT and isinstance(args[3], bool):
            args = (args[0], _fitted(args[1], args[2][1].shape[1]), *args[2:])
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


def _fitted(states: Any, size: int) -> Any:
    """First states of zeros for as many neurons as there are."""
    if isinstance(states, Tensor):
        return states[..., :size]
    return [each[..., :size] for each in states]


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
    given = call(module, batch)
    if not any(parameter.is_floating_point() for parameter in module.parameters()):
        raise UnsupportedModelError(f"{type(module).__name__} has no parameters to explain")
    try:
        with torch.no_grad():
            output = module(*given.args, **given.kwargs)
    except Exception as error:  # of the user's code
        raise UnsupportedModelError(_why(module, error, "run on the example")) from error
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
            program = export_call(module, given, len(output))
    except Exception as error:
        raise UnsupportedModelError(_why(module, error, "exported")) from error
    return _read(program, module, [*named_tensors(given.named)])


def export_call(module: nn.Module, given: Call, rows: int) -> ExportedProgram:
    """The program, in which no operation changes a tensor in place."""
    shapes = map_tensors(given.named, lambda tensor: _open(tensor, rows))
    own, module.forward = vars(module).get("forward"), partial(module.forward)
    vars(module.forward)["__signature__"] = given.signature
    try:
        program = export(module, given.args, given.kwargs, dynamic_shapes=shapes)
    finally:
        del module.forward
        vars(module).update({"forward": own} if own else {})
    called = [operation(n) for n in program.graph.nodes if n.op == "call_function"]
    in_place = any(n.endswith("_") and not n.endswith("__") and n != "detach_" for n in called)
    return program.run_decompositions({}) if in_place else program


def _open(tensor: Tensor, rows: int) -> dict[int, Any]:
    """Which sizes may differ between batches: those of rows, and the numbers of ids in bags."""
    whole = not tensor.is_floating_point() or tensor.ndim == 1
    return {axis: Dim.AUTO for axis, n in enumerate(tensor.shape) if whole or n == rows}


def map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Nested tuples, lists and dicts with a function of their tensors; None for other values."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {name: map_tensors(part, function) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(part, function) for part in value)
    return None


def _why(module: nn.Module, error: Exception, verb: str) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((_TORCH, __file__))]
    at = [f"{Path(f.filename).name}:{f.lineno}, {(f.line or '').strip()}" for f in own]
    where, text = at[-1] if at else "its code", " ".join(str(error).split())
    if "data-dependent" in text.lower():
        text = "control flow depends on the values of a tensor; use torch.where"
    return f"{type(module).__name__} cannot be {verb}, at {where}: {text[:300]}"


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
    _drop_idle_views(program.graph)
    end = next(node for node in program.graph.nodes if node.op == "output").args[0][-1]
    logit, removed = _without_sigmoid(end)
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
    return ExportedModule(
        nodes, leaves, state, constants, end, logit, removed, found.node.expr, dtype
    )


def _drop_idle_views(graph: Any) -> None:
    """Remove views to the same shape, as `x.view(-1, 16)`: it would be that of all neurons."""
    for node in [n for n in graph.nodes if operation(n) in ("view", "reshape", "_unsafe_view")]:
        if str(node.args[0].meta["val"].shape) == str(node.meta["val"].shape):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


_RESHAPING = {"squeeze", "view", "reshape", "flatten", "unsqueeze", "clone", "contiguous"}


def _without_sigmoid(end: Node) -> tuple[Node, tuple[str, ...]]:
    """The logits, and the sigmoid that is left out; shapes of one row stay as they are."""
    node = end
    while operation(node) in _RESHAPING and isinstance(node.args[0], Node):
        node = node.args[0]
    if operation(node) == "sigmoid" and isinstance(node.args[0], Node):
        return node.args[0], (f"sigmoid ({place(node)})",)
    return end, ()

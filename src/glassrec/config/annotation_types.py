"""The type of an annotation, read from source: no class that it names is imported.

It may be made of `typing`, `pydantic`, `annotated_types`, the standard library's value types, type
aliases, and enumerations, dataclasses and pydantic models of the user's own. Any other class stands
for nested settings with a `_target_`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import annotated_types
from pydantic import BeforeValidator, ConfigDict, DirectoryPath, Field, FilePath, create_model
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from glassrec.config import paths, targets
from glassrec.config.targets import Definition, Module, Parameter


def parameter_type(parameter: Parameter) -> Any:
    """The type of a parameter; Any where it has no annotation.

    Raises:
        TypeError, ValueError, AttributeError: the annotation cannot be understood.
    """
    if parameter.annotation is None:
        return Any
    found = _evaluate(parameter.annotation, parameter.module)
    if parameter.constraints is None:
        return found
    return Annotated[found, _call(parameter.constraints, parameter.module)]


# --- classes that are not imported -----------------------------------------------------------


class NestedConfig:
    """Stands for any class that is not a plain value: settings with a `_target_`."""

    partial = False

    def __class_getitem__(cls, _: Any) -> type[NestedConfig]:
        return cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._check)

    @classmethod
    def _check(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "_target_" not in value:
            raise PydanticCustomError("nested", "settings with a _target_")
        if value.get("_partial_", False) is not cls.partial:
            which = "with" if cls.partial else "without"
            raise PydanticCustomError("nested", f"settings {which} `_partial_: true`")
        return value


class PartialConfig(NestedConfig):
    """Stands for a callable: settings to which the run adds the first argument."""

    partial = True


def _absolute(value: Any) -> Any:
    """A path made absolute; `data.root=$UNSET` is empty, and would be the current folder."""
    if not isinstance(value, str):
        return value
    try:
        return str(paths.absolute(value))
    except ValueError as error:
        raise PydanticCustomError("path_unusable", "{expected}", {"expected": str(error)}) from None


_LIGHT = {
    "annotated_types", "collections", "datetime", "decimal", "enum", "numbers", "pathlib",
    "pydantic", "typing", "typing_extensions", "uuid",
}  # fmt: skip
"""Modules whose names are imported, as they cost nothing and do nothing."""

_HEAVY = {"torch", "lightning", "numpy", "pandas", "torchmetrics", "captum", "wandb"}
"""Packages whose classes are nested settings; their source is too long to be read."""

_NAMES: dict[str, Any] = {
    **{each.__name__: each for each in (int, float, str, bool, list, tuple, dict, set, frozenset)},
    **{name: getattr(annotated_types, name) for name in annotated_types.__all__},
    "Annotated": Annotated,
    "Any": Any,
    "Callable": PartialConfig,
    "Field": Field,
    "DirectoryPath": Annotated[DirectoryPath, BeforeValidator(_absolute)],
    "FilePath": Annotated[FilePath, BeforeValidator(_absolute)],
    "Iterable": Sequence,
    "Literal": Literal,
    "Mapping": Mapping,
    "Optional": Optional,
    "Path": Annotated[Path, BeforeValidator(_absolute)],
    "Sequence": Sequence,
    "Union": Union,
}
"""Names that mean the same wherever they come from."""


# --- annotations -----------------------------------------------------------------------------


def _evaluate(node: ast.expr, module: Module | None) -> Any:
    """The type that an expression stands for. Nothing in it is executed."""
    match node:
        case ast.Constant(value=value) if value is None or value is ...:
            return value
        case ast.Constant(value=str(text)):
            return _evaluate(ast.parse(text, mode="eval").body, module)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_evaluate(left, module), _evaluate(right, module)]  # noqa: UP007
        case ast.Name() | ast.Attribute():
            return _named(node, module)
        case ast.Call():
            return _call(node, module)
        case ast.Subscript(value=value, slice=index):
            return _subscript(_evaluate(value, module), index, module)
    raise TypeError(f"{ast.unparse(node)} is no type")


def _subscript(base: Any, index: ast.expr, module: Module | None) -> Any:
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    if isinstance(base, type) and issubclass(base, NestedConfig):
        return base
    if base is Literal:
        return Literal[tuple(ast.literal_eval(part) for part in parts)]
    if base is Annotated:
        first, *rest = parts
        metadata = [*filter(None, (_metadata(part, module) for part in rest))]
        if not rest:
            raise TypeError("Annotated needs metadata")
        found = _evaluate(first, module)
        return Annotated[(found, *metadata)] if metadata else found
    types = tuple(_evaluate(part, module) for part in parts)
    return base[types if len(types) > 1 else types[0]]


def _metadata(node: ast.expr, module: Module | None) -> Any:
    """What pydantic checks; functions of the user's own run only when the object is built."""
    try:
        return _call(node, module) if isinstance(node, ast.Call) else ast.literal_eval(node)
    except ValueError:
        return None


def _call(node: ast.Call, module: Module | None) -> Any:
    """A constraint such as `Ge(0)`, `Field(gt=0)` or `conint(gt=0)`; ValueError for others."""
    function = _evaluate(node.func, module)
    home = str(getattr(function, "__module__", "")).partition(".")[0]
    if home not in ("annotated_types", "pydantic"):
        raise ValueError(f"{ast.unparse(node)} is no constraint")
    arguments = [_argument(each, module) for each in node.args]
    names = {each.arg: _argument(each.value, module) for each in node.keywords if each.arg}
    return function(*arguments, **names)


def _argument(node: ast.expr, module: Module | None) -> Any:
    plain = ast.Constant, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop
    if all(isinstance(each, plain) for each in ast.walk(node)):  # 2**63
        return eval(compile(ast.Expression(node), "<constant>", "eval"), {"__builtins__": {}})
    return _evaluate(node, module)


def _named(node: ast.expr, module: Module | None) -> Any:
    text = ast.unparse(node)
    if not all(part.isidentifier() for part in text.split(".")):
        return NestedConfig
    if "." not in text and (module is None or text not in module.bindings):
        return _NAMES.get(text, NestedConfig)
    return _located(text if module is None else targets.absolute(module, text))


def _located(path: str) -> Any:
    top, last = path.partition(".")[0], path.rpartition(".")[2]
    if top in _LIGHT:
        return _NAMES[last] if last in _NAMES else _light(path)
    if top in _HEAVY:
        return NestedConfig
    try:
        found = targets.bound(path)
    except (LookupError, SyntaxError, OSError):
        return _NAMES.get(last, NestedConfig)
    if isinstance(found, Definition):
        return _class(found) if found.is_class else NestedConfig
    try:
        return _evaluate(*found)  # a type alias
    except TypeError:
        return NestedConfig


def _light(path: str) -> Any:
    home, _, name = path.rpartition(".")
    if name == "ImportString":  # it imports
        return NestedConfig
    try:
        return getattr(import_module(home), name)
    except (ImportError, AttributeError, ValueError):
        return NestedConfig


def _class(definition: Definition) -> Any:
    if definition.path.startswith("glassrec."):
        return NestedConfig
    if targets.inherits(definition, "enum"):
        return _enumeration(definition)
    if targets.is_dataclass(definition) or targets.inherits(definition, "pydantic"):
        return _model(definition)
    return NestedConfig


def _enumeration(definition: Definition) -> Any:
    """The values of an enumeration; its names stand for them."""
    members: dict[str, Any] = {}
    for statement in definition.tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                try:
                    members[name] = ast.literal_eval(value)
                except ValueError:  # auto(), or computed: only the name is known
                    members[name] = name
    if not all(isinstance(value, str | int) for value in members.values()):
        members = {name: name for name in members}
    allowed = Literal[tuple(members.values())]  # type: ignore[valid-type]

    def to_value(value: Any) -> Any:
        return members.get(value, value) if isinstance(value, str) else value

    return Annotated[allowed, BeforeValidator(to_value)]


def _model(definition: Definition) -> Any:
    """A dataclass or pydantic model of the user's own, as a model of the same fields."""
    fields: dict[str, Any] = {
        name: (parameter_type(parameter), ... if parameter.required else None)  # filled in later
        for name, parameter in targets.signature(definition).parameters.items()
    }
    return create_model(definition.tree.name, __config__=ConfigDict(extra="forbid"), **fields)

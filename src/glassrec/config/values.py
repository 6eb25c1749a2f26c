"""Whether a value fits a parameter's annotation, which is read from source and not imported.

An annotation is made of plain types, ranges and paths. Every other name in it, such as `Source`,
means a nested node with a `_target_`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union, get_args

import annotated_types
from pydantic import BeforeValidator, DirectoryPath, FilePath, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from glassrec.config import paths
from glassrec.spelling import did_you_mean


@dataclass(frozen=True)
class Kind:
    """What an annotation says, as pydantic understands it."""

    type: Any
    adapter: TypeAdapter[Any]

    @property
    def is_value(self) -> bool:
        """Whether a configuration can write it down; the run itself gives a schema or weights."""
        return not _mentions_node(self.type)

    def fit(self, value: Any) -> tuple[Any, list[tuple[str, str]]]:
        """`value` as the target takes it, paths absolute; and what is wrong with it.

        JSON is the form in which YAML's few types meet Python's: '3' and true are no integers.

        Returns:
            The value, and problems as pairs: where inside the value (`[1]`, `.name` or nothing),
            and what to say of it.
        """
        try:
            return self.adapter.validate_json(json.dumps(value, default=str), strict=True), []
        except ValidationError as error:
            return value, list(_problems(error, value))


@cache
def read(annotation: ast.expr | None) -> Kind:
    """What an annotation says; anything goes where there is none.

    Raises:
        ValueError: it says more than names, `|`, `[]` and ranges.
    """
    try:
        kind = Any if annotation is None else _evaluate(annotation)
        return Kind(kind, TypeAdapter(kind))
    except (TypeError, AttributeError, PydanticUserError) as error:
        words = ast.unparse(annotation) if annotation else ""
        raise ValueError(f"cannot read the annotation {words!r}: {error}") from None


def placeholder(annotation: ast.expr | None) -> str:
    """What to write in the place of a missing value."""
    words = ast.unparse(annotation) if annotation else ""
    if "Path" in words:
        return "PATH"
    return "NUMBER" if "int" in words or "float" in words else "VALUE"


# --- annotations -----------------------------------------------------------------------------


class Node:
    """Stands for any class that is not a plain value: settings with a `_target_`."""

    partial = False

    def __class_getitem__(cls, _: Any) -> type[Node]:
        return cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._check)

    @classmethod
    def _check(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "_target_" not in value:
            raise PydanticCustomError("node", "settings with a _target_")
        if value.get("_partial_", False) is not cls.partial:
            which = "with" if cls.partial else "without"
            raise PydanticCustomError("node", f"settings {which} `_partial_: true`")
        return value


class Partial(Node):
    """Stands for a callable: settings to which the run adds the first argument."""

    partial = True


def _mentions_node(kind: Any) -> bool:
    return (isinstance(kind, type) and issubclass(kind, Node)) or any(
        _mentions_node(part) for part in get_args(kind)
    )


def _absolute(value: Any) -> Any:
    """A path made absolute; `data.root=$UNSET` is empty, and would be the current folder."""
    if not isinstance(value, str):
        return value
    try:
        return str(paths.absolute(value))
    except ValueError as error:
        raise PydanticCustomError("path_unusable", "{wanted}", {"wanted": str(error)}) from None


class _Names(dict[str, Any]):
    def __missing__(self, name: str) -> type[Node]:
        return Node


_NAMES = {
    **{kind.__name__: kind for kind in (int, float, str, bool, list, tuple, dict)},
    **{name: getattr(annotated_types, name) for name in annotated_types.__all__},
    "Annotated": Annotated,
    "Any": Any,
    "Callable": Partial,
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


class _LastName(ast.NodeTransformer):
    """`typing.Any` and `t.Any` become `Any`, so that nothing is left to reach into."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.Name:
        return ast.Name(node.attr, ast.Load())


def _evaluate(annotation: ast.expr) -> Any:
    """Evaluate with the names above and no other: an unknown name is a `Node`."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    tree = ast.Expression(_LastName().visit(deepcopy(annotation)))
    code = compile(ast.fix_missing_locations(tree), "<annotation>", "eval")
    return eval(code, {"__builtins__": {}}, _Names(_NAMES))


# --- messages --------------------------------------------------------------------------------

_SHOWN = 240
"""How many characters of a value a message shows; the middle of a longer one is left out."""

_WANTED = {
    "bool_type": "true or false",
    "dict_type": "names with values",
    "float_type": "a number",
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge}",
    "int_type": "a whole number",
    "less_than": "< {lt}",
    "less_than_equal": "<= {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "missing": "a longer list",
    "string_too_short": "at least {min_length} long",
    "too_long": "at most {max_length} long",
    "too_short": "at least {min_length} long",
    "none_required": "null",
    "path_not_directory": "a directory that exists",
    "path_not_file": "a file that exists",
    "string_type": "text",
    "tuple_type": "a list",
}


def _problems(error: ValidationError, value: Any) -> Iterator[tuple[str, str]]:
    found: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors():
        found.setdefault(_place(value, detail["loc"]), []).append(detail)
    for place, details in found.items():
        # Of `float | Tensor`, a configuration can only give the number.
        plain = [detail for detail in details if detail["type"] != "node"] or details
        wanted = " or ".join(dict.fromkeys(_wanted(detail) for detail in plain))
        yield place, f"{_shown(plain[0])} is not allowed; must be {wanted}{_near(plain[0])}"


def _place(value: Any, location: tuple[int | str, ...]) -> str:
    """Pydantic's location without the names of union members, which are not in the value."""
    place = ""
    for part in location:
        if isinstance(value, list) and isinstance(part, int) and part < len(value):
            place, value = f"{place}[{part}]", value[part]
        elif isinstance(value, dict) and part in value:
            place, value = f"{place}.{part}", value[part]
    return place


def _shown(detail: ErrorDetails) -> str:
    value = detail["input"]
    if isinstance(value, dict) and "_target_" in value:
        return str(value["_target_"])
    text = str(value) if detail["type"].startswith("path_not") else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 4 :]}"


def _wanted(detail: ErrorDetails) -> str:
    if wanted := _WANTED.get(detail["type"]):
        return wanted.format(**detail.get("ctx", {}))
    return detail["msg"].removeprefix("Input should be ")


def _near(detail: ErrorDetails) -> str:
    if detail["type"] != "literal_error" or not isinstance(detail["input"], str):
        return ""
    return did_you_mean(detail["input"], detail["ctx"]["expected"].split("'")[1::2])

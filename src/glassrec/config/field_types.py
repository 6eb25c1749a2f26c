"""Whether a value fits the type of a parameter, checked by pydantic, and messages where not."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails

from glassrec.config.annotation_types import NestedConfig, parameter_type
from glassrec.config.targets import Parameter
from glassrec.spelling import did_you_mean


@dataclass(frozen=True)
class FieldType:
    """The type that an annotation gives to a setting, as pydantic understands it."""

    type: Any
    adapter: TypeAdapter[Any]

    @property
    def is_setting(self) -> bool:
        """Whether a configuration can give a value; a schema or weights come from the run."""
        return not _contains(self.type, NestedConfig)

    def validate(self, value: Any) -> tuple[Any, list[tuple[str, str]]]:
        """`value` as the target takes it, paths absolute; and the errors in it.

        JSON is the form in which YAML's few types meet Python's: '3' and true are no integers.

        Returns:
            The value, and errors as pairs: the place inside the value (`[1]`, `.name` or nothing)
            and the message.
        """
        try:
            found = self.adapter.validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError as error:
            return value, list(_problems(error, value, _names(self.type)))
        if _contains(self.type, BaseModel):
            found = self.adapter.dump_python(found, by_alias=True, exclude_unset=True)
        return found, []


def field_type(parameter: Parameter) -> FieldType:
    """The type of a parameter; ValueError if its annotation cannot be understood."""
    annotation = parameter.annotation
    if annotation not in _known:
        try:
            found = parameter_type(parameter)
            _known[annotation] = FieldType(found, TypeAdapter(found))
        except (TypeError, ValueError, AttributeError, PydanticUserError, RecursionError) as error:
            text = ast.unparse(annotation) if annotation else ""
            raise ValueError(f"the annotation {text!r} cannot be understood: {error}") from None
    return _known[annotation]


_known: dict[ast.expr | None, FieldType] = {}


def example(annotation: ast.expr | None) -> str:
    """An example of a value, for a message about a missing one."""
    text = ast.unparse(annotation) if annotation else ""
    if "Path" in text:
        return "PATH"
    return "NUMBER" if "int" in text.casefold() or "float" in text.casefold() else "VALUE"


def _contains(found: Any, kind: type) -> bool:
    return (isinstance(found, type) and issubclass(found, kind)) or any(
        _contains(part, kind) for part in get_args(found)
    )


# --- messages --------------------------------------------------------------------------------

_SHOWN = 240
"""How many characters of a value a message shows; the middle of a longer one is left out."""

_EXPECTED = {
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
    "path_not_directory": "an existing directory",
    "path_not_file": "an existing file",
    "string_type": "text",
    "tuple_type": "a list",
}


def _problems(
    error: ValidationError, value: Any, names: Sequence[str]
) -> Iterator[tuple[str, str]]:
    found: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors():
        place, last = _place(value, detail["loc"]), next(iter(detail["loc"][-1:]), None)
        if detail["type"] == "missing" and isinstance(last, str):
            yield f"{place}.{last}", "a value is needed"
        elif detail["type"] == "extra_forbidden":
            yield place, f"there is no field {last!r}{did_you_mean(str(last), names)}"
        else:
            found.setdefault(place, []).append(detail)
    for place, details in found.items():
        # Of `float | Tensor`, a configuration can only give the number.
        plain = [detail for detail in details if detail["type"] != "nested"] or details
        expected = " or ".join(dict.fromkeys(_expected(detail) for detail in plain))
        yield place, f"{_abbreviated(plain[0])} is not allowed; must be {expected}{_near(plain[0])}"


def _names(found: Any) -> list[str]:
    if isinstance(found, type) and issubclass(found, BaseModel):
        inner = [name for each in found.model_fields.values() for name in _names(each.annotation)]
        return [*found.model_fields, *inner]
    return [name for part in get_args(found) for name in _names(part)]


def _place(value: Any, location: tuple[int | str, ...]) -> str:
    """Pydantic's location without the names of union members, which are not in the value."""
    place = ""
    for part in location:
        if isinstance(value, list) and isinstance(part, int) and part < len(value):
            place, value = f"{place}[{part}]", value[part]
        elif isinstance(value, dict) and part in value:
            place, value = f"{place}.{part}", value[part]
    return place


def _abbreviated(detail: ErrorDetails) -> str:
    value = detail["input"]
    if isinstance(value, dict) and "_target_" in value:
        return str(value["_target_"])
    text = str(value) if detail["type"].startswith("path_not") else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 4 :]}"


def _expected(detail: ErrorDetails) -> str:
    if expected := _EXPECTED.get(detail["type"]):
        return expected.format(**detail.get("ctx", {}))
    return detail["msg"].removeprefix("Input should be ")


def _near(detail: ErrorDetails) -> str:
    if detail["type"] != "literal_error" or not isinstance(detail["input"], str):
        return ""
    return did_you_mean(detail["input"], detail["ctx"]["expected"].split("'")[1::2])

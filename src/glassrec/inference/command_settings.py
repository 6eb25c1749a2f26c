"""The settings of a command on a finished run: `key=value` words, checked all at once, and help."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from glassrec.process_exit import UsageError
from glassrec.spelling import one_of

S = TypeVar("S", bound="RunSettings")


def _listed(value: Any) -> Any:
    """`[a,b]`, `a,b` or `a` as a list."""
    if not isinstance(value, str):
        return value
    inside = value.removeprefix("[").removesuffix("]")
    return [word.strip() for word in inside.split(",") if word.strip()]


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""A setting of several words: `key=a,b` or `key=[a,b]`."""


class RunSettings(BaseModel):
    """The settings that all commands on a finished run have; a command adds its own.

    The description of a field is its help; its alias, where it has one, is its key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_dir: Path = Field(alias="run.dir", description="the directory of a finished run")
    trust: Words = Field(
        (),
        description="classes of your own in this folder that the run uses, by their import paths",
    )


def parse_settings(words: Sequence[str], settings: type[S]) -> S:
    """The settings that the words of a command give; `null` is the default.

    Raises:
        UsageError: everything that is wrong, a line each, with the nearest names.
    """
    known = {field.alias or name: field for name, field in settings.model_fields.items()}
    problems, given = [], dict[str, str]()
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key.startswith("-"):
            bare = key.lstrip("-").replace("-", "_")
            hint = f"; write {bare}={value or 'VALUE'}" if bare in known else ""
            problems.append(f"{word!r} is not of the form key=value{hint}")
        elif key not in known:
            problems.append(f"{key}: there is no such setting{one_of(key, known)}")
        elif value != "null":
            given[key] = value
    try:
        found = settings.model_validate(given)
    except ValidationError as error:
        for each in error.errors():
            key = ".".join(map(str, each["loc"][:1]))
            if each["type"] == "missing":
                problems.append(f"{key}: a value is needed: {known[key].description}")
            else:
                message = str(each["msg"]).removeprefix("Value error, ")
                problems.append(f"{key}: {given.get(key)!r} is not allowed; {message.lower()}")
    if problems:
        raise UsageError("\n".join(problems))
    return found


def help_of(command: str, settings: type[RunSettings], summary: str, examples: str) -> str:
    """The help of a command: usage, summary, the settings with their defaults, and examples."""
    lines = []
    for name, field in settings.model_fields.items():
        default = "" if field.is_required() else f"={_shown(field.default)}"
        left = f"  {field.alias or name}{default}{_choices(field.annotation)}"
        text = textwrap.wrap(str(field.description), 62)
        lines += [f"{left:<34}  {text[0]}"] if len(left) <= 34 else [left, f"{'':<36}{text[0]}"]
        lines += [f"{'':<36}{line}" for line in text[1:]]
    return (
        f"Usage: glassrec {command} key=value ...\n\n{summary.strip()}\n\nSettings\n"
        + "\n".join(lines)
        + f"\n\nExamples\n{textwrap.indent(examples.strip(), '  ')}\n\n"
        "Exit codes: 0 done; 1 a failure on the way, and nothing was written; 2 the command is "
        "wrong.\n"
    )


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "null" if default in (None, ()) else str(default)


def _choices(annotation: Any) -> str:
    """`, or x`, of the other values of a literal."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return ""
    words = get_args(annotation)
    texts = [word for word in words if isinstance(word, str)]
    return f" | {' | '.join(texts[1:])}" if len(texts) == len(words) and texts[1:] else ""

"""The settings of a command on a finished run: `key=value` words, checked all at once, and help."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from glassrec.process_exit import UsageError
from glassrec.run import run_of_cut
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
    command: ClassVar[str]
    summary: ClassVar[str]
    examples: ClassVar[str]
    rows_to_stdout: ClassVar[bool] = True  # without a file; lines go to standard error, then

    run_dir: Path = Field(alias="run.dir", description="the directory of a finished run")
    cut: str | None = Field(None, description="the name of a cut of the run, a folder in its cuts/")
    out: Path | None = Field(
        None, description="a file, .csv, .jsonl or .parquet; null is standard output, as CSV"
    )
    chunk: Annotated[int, Ge(1)] = Field(
        16384, description="rows of input, or pairs of user and item, in memory at a time"
    )
    trust: Words = Field(
        (),
        description="classes of your own in this folder that the run uses, by their import paths",
    )


class ModelSettings(RunSettings):
    """The settings of commands that explain one of the two models."""

    model: Literal["trained", "pruned"] = Field(
        "trained", description="which of the two models; of a cut, the default is pruned"
    )
    reasons: Annotated[int, Ge(0)] = Field(
        0, description="how many columns reason_1, reason_2, ... a row gets, strongest first"
    )


def run_command(
    settings: type[S], execute: Callable[[S], Iterable[str]], words: Sequence[str]
) -> int:
    """Execute a command and print its summary lines, or print its help; the exit code."""
    if {"-h", "--help", "help"} & {*words}:
        print(help_of(settings), end="")
        return 0
    found = parse_settings(words, settings)
    for line in execute(found):
        print(line, file=sys.stderr if found.rows_to_stdout and not found.out else sys.stdout)
    return 0


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
    run = Path(given.get("run.dir", "")).expanduser()
    if "model" in known and ("cut" in given or run_of_cut(run) is not None):
        given.setdefault("model", "pruned")
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


def help_of(settings: type[RunSettings]) -> str:
    """The help of a command: usage, summary, the settings with their defaults, and examples."""
    fields = sorted(  # required ones first, those that all commands have last
        settings.model_fields.items(),
        key=lambda each: not each[1].is_required() and 1 + (each[0] in ModelSettings.model_fields),
    )
    return (
        f"Usage: glassrec {settings.command} key=value ...\n\n{settings.summary.strip()}\n\n"
        "Settings\n"
        + "".join(help_of_field(name, field) for name, field in fields)
        + f"\nExamples\n{textwrap.indent(settings.examples.strip(), '  ')}\n\n"
        "Exit codes: 0 done; 1 a failure on the way, and nothing was written; 2 the command is "
        "wrong.\n"
    )


def help_of_field(name: str, field: FieldInfo) -> str:
    """The help of one setting, in lines of a table."""
    default = "" if field.is_required() else f"={_shown(field.default)}"
    left = f"  {field.alias or name}{default}{_choices(field.annotation)}"
    text = textwrap.wrap(str(field.description), 62)
    lines = [f"{left:<34}  {text[0]}"] if len(left) <= 34 else [left, f"{'':<36}{text[0]}"]
    return "\n".join([*lines, *(f"{'':<36}{line}" for line in text[1:]), ""])


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

"""All errors of a configuration, found before any class in it is imported or called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from glassrec.config import field_types, guesses, targets
from glassrec.config.groups import options
from glassrec.spelling import did_you_mean, either

MISSING = "???"
"""How a YAML file says that a value is needed."""


def check(config: dict[str, Any], groups: Mapping[str, Iterable[str]] | None = None) -> list[str]:
    """All errors of a resolved configuration; no class is imported or called.

    Each node is bound to the signature of its `_target_`, which must be an allowed one. Values
    become, in place, what the target takes: paths absolute, lists tuples. `run.dir` may be null.
    `groups` are the config groups and their options, those in `configs/` if it is None.
    """
    unknown = partial(_unknown, deepcopy(config), options() if groups is None else groups)
    return list(_bind("", config, targets.locate("glassrec.pipeline.Pipeline"), unknown))


_UnknownKey = Callable[[str, str, Any, Iterable[str]], str]
"""Of path, key, value and known keys, the end of the message about an unknown key."""


def _unknown(
    config: dict[str, Any], groups: Mapping[str, Iterable[str]],
    path: str, key: str, value: Any, parameters: Iterable[str],
) -> str:  # fmt: skip
    """The intended key, the nearest one, or all keys."""
    if note := guesses.note(path):
        return f"; {note}"
    found = guesses.meant(path, value, config, groups)
    if not found and (near := did_you_mean(key, parameters)):
        return near
    found = found or guesses.nearby(path, value, config)
    if found:
        return f"; did you mean {either(found)}?"
    return f"; it has {', '.join(parameters) or 'none'}"


_BY_THE_PROGRAM = ("config", "command", "written")
"""The parameters of `Run` that are not a user's to give."""


def _bind(
    path: str, node: dict[str, Any], target: targets.Definition, unknown: _UnknownKey
) -> Iterator[str]:
    signature = targets.signature(target)
    withheld = _BY_THE_PROGRAM if path == "run" else ()
    parameters = {k: v for k, v in targets.checkable(target).items() if k not in withheld}
    further = targets.passed_on(target) if node.keys() - {*parameters, "_target_"} else {}
    parameters |= {k: v for k, v in further.items() if k in node}
    for key in [key for key in node if key not in (*parameters, "_target_", "_partial_")]:
        if signature.open and not further and not re.fullmatch(r"_\w+_", key):
            yield from _walk(_join(path, key), node[key], unknown)
        else:
            end = unknown(_join(path, key), key, node[key], {**parameters, **further})
            where = f"{target.tree.name} has no parameter" if path else "there is no setting"
            yield f"{_join(path, key)}: {where} {key!r}{end}"
    for key, parameter in parameters.items():
        yield from _fit(_join(path, key), key, node, parameter, unknown)


def _fit(
    path: str, key: str, node: dict[str, Any], parameter: targets.Parameter, unknown: _UnknownKey
) -> Iterator[str]:
    try:
        found = field_types.field_type(parameter)
    except ValueError as error:
        yield f"{path}: {error}"
        return
    value = node.get(key, MISSING)
    if path == "run.dir" and value in (None, MISSING):
        return
    if value == MISSING:
        given = parameter.annotation is not None and found.is_setting
        later = node.get("_partial_") is True and not given
        if key in node or (parameter.required and not later):
            word = field_types.example(parameter.annotation)
            yield f"{path}: a value is needed, e.g. {path}={word}"
        return
    node[key], problems = found.validate(value)
    yield from (f"{path}{place}: {problem}" for place, problem in problems)
    if not problems:
        yield from _walk(path, node[key], unknown)


def _walk(path: str, value: Any, unknown: _UnknownKey) -> Iterator[str]:
    """The nodes inside a value, wherever they hide."""
    if isinstance(value, dict) and "_target_" in value:
        yield from _node(path, value, unknown)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if re.fullmatch(r"_\w+_", str(key)):
                yield f"{_join(path, key)}: {key} means something only beside a _target_"
            yield from _walk(_join(path, key), inner, unknown)
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _walk(f"{path}[{position}]", inner, unknown)
    elif isinstance(value, str) and "${" in value:
        # It was escaped, and building would resolve it a second time, behind this check.
        yield f"{path}: {value!r} is not allowed; a text cannot hold ${{"


def _node(path: str, node: dict[str, Any], unknown: _UnknownKey) -> Iterator[str]:
    name, partial = node["_target_"], node.get("_partial_", False)
    if not isinstance(partial, bool):
        yield f"{path}._partial_: {partial!r} is not allowed; must be true or false"
    try:
        target = targets.resolve(str(name))
    except LookupError as error:
        yield f"{path}._target_: {error.args[0]}"
    else:
        if not target.is_class and not partial:
            # Only constructors are called while nothing runs; a function is handed on.
            yield f"{path}: {target.path} is a function, and needs `_partial_: true`"
        yield from _bind(path, node, target, unknown)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)

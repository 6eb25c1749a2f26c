"""Old names of settings: a command, a YAML file or a saved run may still use them for one release.

To rename a setting, add a row here and use the new name everywhere else. No import of Glassrec:
whatever reads a `config.yaml` may import this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

KEYS: dict[str, str] = {
    "prune.of": "prune.budget_unit",
    "prune.within": "prune.max_metric_drop",
    "prune.combinations": "prune.max_enumerated_inputs",
}
"""The dotted key, or config group, that takes the place of an old one: `prune.of` of
`prune.budget_unit`. The settings below a key move with it."""

VALUES: dict[str, dict[str, str]] = {"prune.budget_unit": {"units": "neurons"}}
"""By the new dotted key: texts that it had before, and those that take their place."""

TARGETS: dict[str, str] = {
    "glassrec.prune.stage.Prune": "glassrec.prune.pruner.Pruner",
    "glassrec.prune.curves.Curves": "glassrec.prune.pruning_curves.PruningCurves",
} | {
    f"glassrec.prune.scores.{name}": f"glassrec.prune.importance.{name}Score"
    for name in (
        "Conductance", "Taylor", "Activation", "Zeros", "Magnitude", "Deviation", "Random"
    )
}  # fmt: skip
"""The path that takes the place of an old `_target_`."""


def current(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A configuration under the names of today.

    A value under an old key takes the place of one under the new key, which is a default then.

    Returns:
        The configuration, a copy; and a line about each old name in it.
    """
    found: dict[str, Any] = _copy(config)
    notes = []
    for old, new in KEYS.items():
        if (value := _take(found, old)) is not _NOTHING:
            _put(found, new, value)
            notes.append(f"{old} is now {new}")
    for key, texts in VALUES.items():
        value = _take(found, key)
        if isinstance(value, str) and value in texts:
            notes.append(f"{key}={value} is now {key}={texts[value]}")
            value = texts[value]
        if value is not _NOTHING:
            _put(found, key, value)
    notes += _old_targets(found)
    return _with_targets(found, TARGETS), notes


def original(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, or a part of one by its root keys, under the names before any renaming.

    The keys of a record and the names of run directories are hashes of it, so that a renaming
    makes no result stale.
    """
    found: dict[str, Any] = _copy(config)
    for key, texts in VALUES.items():
        value = _take(found, key)
        if value is not _NOTHING:
            before = {new: old for old, new in texts.items()}
            _put(found, key, before.get(value, value) if isinstance(value, str) else value)
    first = {new: old for old, new in reversed(KEYS.items())}
    for new, old in first.items():
        if (value := _take(found, new)) is not _NOTHING:
            _put(found, old, value)
    return _with_targets(found, {new: old for old, new in reversed(TARGETS.items())})


def current_word(word: str) -> tuple[str, list[str]]:
    """An override of the command line under the names of today, and a line about each old name."""
    found = re.fullmatch(r"([+~]{0,2})([\w./]+)(.*)", word, re.DOTALL)
    if found is None:
        return word, []
    prefix, key, rest = found.groups()
    new, notes = current_key(key), []
    if new != key:
        notes.append(f"{key} is now {new}")
    texts = VALUES.get(new.replace("/", "."), {})
    if rest.startswith("="):
        values = ",".join(texts.get(value, value) for value in rest[1:].split(","))
        if values != rest[1:]:
            notes.append(f"{new}{rest} is now {new}={values}")
            rest = f"={values}"
    return f"{prefix}{new}{rest}", notes


def current_keys(group: str, keys: Iterable[str]) -> list[str]:
    """The names of today of some keys in a config group, as records of old runs have them."""
    return [current_key(f"{group}.{key}").split(".")[1] for key in keys]


def current_key(key: str) -> str:
    """The dotted key, or config group with slashes, that takes the place of an old one."""
    for old, new in KEYS.items():
        for separator in "./":
            before, after = (name.replace(".", separator) for name in (old, new))
            if key == before or key.startswith((f"{before}.", f"{before}/")):
                return after + key[len(before) :]
    return key


# --- nested settings -------------------------------------------------------------------------

_NOTHING = object()


def _copy(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def _take(config: dict[str, Any], key: str) -> Any:
    """Remove the value of a dotted key."""
    *parents, last = key.split(".")
    node: Any = config
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    return node.pop(last, _NOTHING) if isinstance(node, dict) else _NOTHING


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; a node is merged into one that is there."""
    *parents, last = key.split(".")
    node = config
    for parent in parents:
        if not isinstance(node.get(parent), dict):
            node[parent] = {}
        node = node[parent]
    there = node.get(last)
    if isinstance(there, dict) and isinstance(value, dict) and "_target_" not in value:
        value = there | value
    node[last] = value


def _with_targets(node: Any, targets: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {
            key: targets.get(value, value)
            if key == "_target_" and isinstance(value, str)
            else _with_targets(value, targets)
            for key, value in node.items()
        }
    return [_with_targets(value, targets) for value in node] if isinstance(node, list) else node


def _old_targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        target = node.get("_target_")
        if isinstance(target, str) and target in TARGETS:
            yield f"{target} is now {TARGETS[target]}"
        node = list(node.values())
    for inner in node if isinstance(node, list) else ():
        yield from _old_targets(inner)

"""How a run is called at W&B, where it belongs, and which of its settings are told."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from glassrec.run import flat, is_path

SWEEP = "GLASSREC_SWEEP"
"""The variable that tells a job the directory of the sweep that it belongs to."""

LABEL = "GLASSREC_LABEL"
"""The variable that tells a job of a sweep what is its own: `model=gmf,seed=1`."""

LONGEST_TAG = 64
"""Characters; W&B refuses a run that has a longer one."""

UNTOLD = ("run", "tracker")
"""Slots that say where to write and to report, not what."""

_SECRET = re.compile(
    r"(^|[._-])(key|api_?key|token|password|passwd|secret|credentials?)$", re.IGNORECASE
)
_LOGIN = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"(://[^?\s]*)\?\S*")


class Place(NamedTuple):
    """Where a run is found."""

    name: str
    group: str | None


def place(directory: Path) -> Place:
    """Name and group of the run in a directory.

    A job of a sweep is called by what is its own there, and grouped with the sweep. One of many
    seeds is grouped with the others.
    """
    seeds = directory.parent.name if directory.name.startswith("seed_") else None
    sweep, label = (os.environ.get(name) for name in (SWEEP, LABEL))
    name = label or seeds or directory.name
    return Place(
        f"{name}/{directory.name}" if seeds else name, Path(sweep).name if sweep else seeds
    )


def tags(config: Mapping[str, Any]) -> list[str]:
    """The kinds of data and model."""
    kinds = (config[slot]["_target_"].rsplit(".", 1)[-1].lower() for slot in ("data", "model"))
    return [*dict.fromkeys(kind[:LONGEST_TAG] for kind in kinds)]


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that W&B gets: `model.factors` as `model/factors`, like its metrics.

    W&B takes a name with a dot, and then neither filters nor groups by it.
    """
    there = told({name: node for name, node in config.items() if name not in UNTOLD})
    names = (name for name in there if not name.endswith("_partial_"))
    return {name.replace(".", "/"): there[name] for name in names}


def told(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested facts under dotted names, without what is nobody's business.

    Of a path the last part is told, so that no home directory is. What is named like a secret is
    left out, and an address is told without its login and its query.
    """
    return {n: _plain(value) for n, value in flat(facts).items() if not _SECRET.search(n)}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):  # in a list
        return told(value)
    if is_path(value):
        return Path(value).name
    if isinstance(value, str):
        return _QUERY.sub(r"\1", _LOGIN.sub("", value))
    return value

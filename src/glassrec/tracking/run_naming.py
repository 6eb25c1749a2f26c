"""Name, group, tags and settings of a run as a tracker gets them, without private values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from glassrec.run import flat, is_path

SWEEP = "GLASSREC_SWEEP"
"""The environment variable with the directory of the sweep that a job belongs to."""

LABEL = "GLASSREC_LABEL"
"""The environment variable with the own settings of a job: `model=gmf,seed=1`."""

MAX_TAG_LETTERS = 64
"""W&B refuses a run with a longer tag."""

PRIVATE_KEYS = ("run", "tracker")
"""Config groups about where to write and to report."""

_SECRET = re.compile(
    r"(^|[._-])(key|api_?key|token|password|passwd|secret|credentials?)$", re.IGNORECASE
)
_LOGIN = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"(://[^?\s]*)\?\S*")


class RunName(NamedTuple):
    """The name of a run and its group."""

    name: str
    group: str | None


def run_name(directory: Path) -> RunName:
    """Name and group of the run in a directory.

    A job of a sweep has the label of its own settings, and its sweep as group. One of many seeds is
    grouped with the others.
    """
    seeds = directory.parent.name if directory.name.startswith("seed_") else None
    sweep, label = (os.environ.get(name) for name in (SWEEP, LABEL))
    name = label or seeds or directory.name
    group = Path(sweep).name if sweep else seeds
    return RunName(f"{name}/{directory.name}" if seeds else name, group)


def default_tags(config: Mapping[str, Any]) -> list[str]:
    """The classes of data and model, in small letters."""
    names = (config[part]["_target_"].rsplit(".", 1)[-1].lower() for part in ("data", "model"))
    return [*dict.fromkeys(name[:MAX_TAG_LETTERS] for name in names)]


def tracked_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings for W&B: `model.factors` as `model/factors`, like its metrics.

    W&B accepts a name with a dot, and then neither filters nor groups by it.
    """
    kept = public_values({name: node for name, node in config.items() if name not in PRIVATE_KEYS})
    names = (name for name in kept if not name.endswith("_partial_"))
    return {name.replace(".", "/"): kept[name] for name in names}


def public_values(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values under dotted names, without private ones.

    Of a path the last part is kept, so that no home directory is. Names of secrets are left out,
    and addresses lose login and query.
    """
    return {n: _public(value) for n, value in flat(facts).items() if not _SECRET.search(n)}


def _public(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_public(each) for each in value]
    if isinstance(value, Mapping):  # in a list
        return public_values(value)
    if is_path(value):
        return Path(value).name
    if isinstance(value, str):
        return _QUERY.sub(r"\1", _LOGIN.sub("", value))
    return value

"""Modules of the user's own, and the places where they are searched.

The working directory is searched only for what the command itself names, by an override or by a
YAML file of `--config-dir`: the `config.yaml` of a run that came from elsewhere is no reason to run
the code beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OURS = ("glassrec", "torch", "lightning", "torchmetrics")
"""Packages whose classes need no search."""

IMPORTED = ("glassrec.imported.factory.imported", "glassrec.imported.batches.Batches")
"""The targets for models from elsewhere, whose callables `admit` lets a command run."""

_trusts = [False]

_added: set[str] = set()
"""The working directories that commands of this process have had searched."""


def user_targets(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The key and the target of each class that is not of `OURS`, wherever it is in a node."""
    if isinstance(node, list | tuple):
        for place, inner in enumerate(node):
            yield from user_targets(inner, f"{path}[{place}]")
    elif isinstance(node, dict):
        target = node.get("_target_")
        if isinstance(target, str) and target.partition(".")[0] not in OURS:
            yield f"{path}._target_", target
        for key, inner in node.items():
            yield from user_targets(inner, f"{path}.{key}" if path else str(key))


def _code(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The settings that have code run, with their values: callables, and a pickled module."""
    for group in ("model", "data"):
        node = config.get(group) or {}
        key = "factory" if node.get("factory") else "weights"
        if node.get("_target_") in IMPORTED and node.get(key) not in (None, "???"):
            yield f"{group}.{key}", node[key]


def admit(
    config: dict[str, Any], named: dict[str, Any], called: Collection[str] = ()
) -> Iterator[str]:
    """Have the working directory searched, where the command names a class that is not installed.

    `named` is the part of the configuration that the command itself gives, and `called` are the
    callables that its words name: no others run, except when `trusting`.

    Yields:
        A problem for each class that is not installed and that the command does not name, or that
        lies in the folder of the run; and for each callable and pickle that is not admitted.
    """
    allowed = {target for _, target in user_targets(named)}
    search = False
    for key, value in _code(config):
        if not _trusts[-1] and (key == "model.weights" or value not in called):
            way = "" if key == "model.weights" else f", or {key}={value}"
            what = f"{key}: {value} is code, which runs only if the command itself asks for it"
            yield f"{what}; if you trust it, add --trust{way}"
        elif _inside(config.get("run", {}).get("dir")):
            yield f"{key}: {value} is not imported from the folder of the run; work elsewhere"
        else:
            search = True
    for key, target in user_targets(config):
        if _is_installed(target):
            continue
        if target not in allowed:
            yield (
                f"{key}: {target} is not installed, and a module in the working directory is "
                "imported only if the command names it; if you trust the code, add "
                f"{key}={target}"
            )
        elif _inside(config.get("run", {}).get("dir")):
            yield f"{key}: {target} is not imported from the folder of the run; work elsewhere"
        else:
            search = True
    here = str(Path.cwd())
    if search and here not in sys.path:
        _added.add(here)
        sys.path.append(here)


@contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """Admit all callables and pickles that settings name within the block, if so wished."""
    _trusts.append(trust)
    try:
        yield
    finally:
        _trusts.pop()


def leave_working_directory() -> None:
    """Take the working directory from the search path, where `python -m` puts it."""
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", str(Path.cwd())):
        del sys.path[0]


def search_path() -> list[str]:
    """The search path without working directories, for a process that has its own."""
    return [folder for folder in sys.path if folder not in _added]


def _is_installed(target: str) -> bool:
    """Whether the package of a class is found without what an earlier search has added."""
    path = sys.path.copy()
    try:
        sys.path[:] = search_path()
        return find_spec(target.partition(".")[0]) is not None
    except (ValueError, ImportError):  # no name of a module; the check of the configuration says so
        return True
    finally:
        sys.path[:] = path


def _inside(directory: Any) -> bool:
    here = Path.cwd().resolve()
    return directory is not None and here.is_relative_to(Path(str(directory)).resolve())

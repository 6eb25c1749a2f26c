"""Modules of the user's own, and the places where they are searched.

The working directory is searched only for what the command itself names, by an override or by a
YAML file of `--config-dir`: the `config.yaml` of a run that came from elsewhere is no reason to run
the code beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OURS = ("glassrec", "torch", "lightning", "torchmetrics")
"""Packages whose classes need no search."""

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


def admit(config: dict[str, Any], named: dict[str, Any]) -> Iterator[str]:
    """Have the working directory searched, where the command names a class that is not installed.

    `named` is the part of the configuration that the command itself gives.

    Yields:
        A problem for each class that is not installed and that the command does not name, or that
        lies in the folder of the run.
    """
    allowed = {target for _, target in user_targets(named)}
    search = False
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

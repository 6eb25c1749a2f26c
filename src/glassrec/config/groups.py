"""Config groups: a folder of `configs/` is a group, and a file in it an option.

No third-party import here: `glassrec --help` lists the groups at once.
"""

from __future__ import annotations

import re
from pathlib import Path


def configs_folder() -> Path:
    """The folder `configs/`: inside the package in a wheel, at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parents[1] / "configs"):
        if (folder / "run.yaml").is_file():
            return folder
    raise RuntimeError(f"no configs/run.yaml in or above {package}: install Glassrec again")


def options(*folders: Path) -> dict[str, list[str]]:
    """The options of each config group in `folders`, `configs/` if there are none.

    A group in a group reads `data/split`.
    """
    found: dict[str, set[str]] = {}
    for folder in folders or (configs_folder(),):
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group.split("/")[0] not in (".", "hydra"):
                found.setdefault(group, set()).add(file.stem)
    return {group: sorted(found[group]) for group in sorted(found)}


def options_with(group: str, inner: str) -> list[str]:
    """The options of a group that have an inner group: `split` in `data/`."""
    listed = re.compile(rf"^ *- {re.escape(inner)}:", re.MULTILINE)
    files = sorted((configs_folder() / group).glob("*.yaml"))
    return [file.stem for file in files if listed.search(file.read_text(encoding="utf8"))]

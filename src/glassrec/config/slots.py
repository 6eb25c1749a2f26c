"""What can be swapped: a folder of `configs/` is a slot, a file in it is a choice.

No third-party import here: `glassrec --help` lists the slots at once.
"""

from __future__ import annotations

import re
from pathlib import Path


def find() -> Path:
    """The folder `configs/`: inside the package in a wheel, at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parents[1] / "configs"):
        if (folder / "run.yaml").is_file():
            return folder
    raise RuntimeError(f"no configs/run.yaml in or above {package}: install Glassrec again")


def choices(*folders: Path) -> dict[str, list[str]]:
    """The choices of each slot in `folders`; a slot in a slot reads `data/split`."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            slot = file.parent.relative_to(folder).as_posix()
            if slot.split("/")[0] not in (".", "hydra"):
                found.setdefault(slot, set()).add(file.stem)
    return {slot: sorted(found[slot]) for slot in sorted(found)}


def with_group(slot: str, group: str) -> list[str]:
    """The choices of a slot that have a group of their own: `split` in `data/`."""
    listed = re.compile(rf"^ *- {re.escape(group)}:", re.MULTILINE)
    files = sorted((find() / slot).glob("*.yaml"))
    return [file.stem for file in files if listed.search(file.read_text(encoding="utf8"))]

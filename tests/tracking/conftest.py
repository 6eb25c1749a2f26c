"""The real client of W&B, offline, without a key and in a home of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandb.util import get_core_path

sys.path.insert(0, str(Path(__file__).parent))  # the stand-in for the server is imported

Records = list[dict[str, Any]]

VARIABLES = (
    "WANDB_API_KEY", "WANDB_MODE", "WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_DIR",
    "GLASSREC_SWEEP", "GLASSREC_LABEL",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture(scope="session")
def inspect() -> Callable[[Path], Records]:
    """What the last offline run in a directory holds, by `wandb leet inspect --json`.

    The program behind it is called, as the client in front takes a second to start.
    """

    def read(directory: Path) -> Records:
        files = (directory / "wandb").glob("offline-run-*/*.wandb")
        run = max(files, key=lambda path: path.stat().st_ctime_ns)
        command = [get_core_path(), "leet", "inspect", "--json", "--run-file", run, run.parent]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    return read


@pytest.fixture(scope="session")
def of() -> Callable[[str, Records], Records]:
    """The records of a kind."""
    return lambda kind, records: [record[kind] for record in records if record["type"] == kind]

"""Artifacts of W&B: what came in and what was made of it, with files that stay where they are.

W&B copies a payload to a staging folder in the user's home, and an offline run notes the copy's
absolute path: moved to another machine, it cannot be sent. Here an artifact names the files of the
run themselves, and an offline one names them from the run's directory. So `wandb sync`, called in
that directory, finds them wherever it lies.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glassrec.run import key_of
from glassrec.tracking.ledger import Ledger
from glassrec.tracking.naming import told

KINDS = ("data", "checkpoint", "attributions", "pruned")
"""Each is made of those before it."""


class Lineage:
    """The artifacts of one run."""

    def __init__(self, wandb: Any, run: Any, ledger: Ledger) -> None:
        self._wandb, self._run, self._ledger = wandb, run, ledger

    def add(self, kind: str, files: Sequence[Path], facts: Mapping[str, Any]) -> None:
        """Log an artifact once in each version, which is the hash of its facts.

        Data gets a file of its facts as payload: the rows themselves are not sent. Its name is the
        same in all runs on it, which are so connected.
        """
        assert kind in KINDS
        version = key_of(facts)
        with self._ledger.telling(f"artifacts/{kind}", version) as news:
            if not news:
                return
            name = f"{kind}-{version[:12] if kind == 'data' else self._ledger.id}"
            artifact = self._wandb.Artifact(name, kind, metadata=told(facts))
            for file in files:
                artifact.add_file(
                    str(self._kept(file, version)), file.name, policy="immutable", skip_cache=True
                )
            if not files:
                with artifact.new_file(f"{kind}.json", encoding="utf-8") as part:
                    json.dump(told(facts), part, indent=1, sort_keys=True)
            self._log(artifact, came_in=kind == "data", goes_on=kind != KINDS[-1])

    def _kept(self, file: Path, version: str) -> Path:
        """Where the payload stays as it is, though the run makes another file of that name.

        That is a second name of the same file: the run never writes into one, it replaces it.
        """
        place = self._ledger.directory / "wandb" / "payloads" / version[:12] / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            try:
                place.hardlink_to(file)
            except OSError:  # the file system has no such names
                shutil.copyfile(file, place)
        return place

    def table(self, name: str, table: Any) -> None:
        """Log an artifact with a table, which refers to it from then on."""
        artifact = self._wandb.Artifact(f"table-{self._ledger.id}-{name}", "table")
        artifact.add(table, name)
        self._log(artifact)

    def _log(self, artifact: Any, *, came_in: bool = False, goes_on: bool = False) -> None:
        """Log it as made by this run, or as come in; and as used by it, where it goes on.

        Offline, the public `use_artifact` refuses to work, though a record of use can be made and
        is honoured when it is sent: so the private method behind it is called.
        """
        if self._run.offline:
            for entry in artifact.manifest.entries.values():
                entry.local_path = os.path.relpath(entry.local_path, self._ledger.directory)
        self._run._log_artifact(artifact, is_user_created=came_in, use_after_commit=goes_on)

"""A run directory that is only read, and what its record says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from glassrec.artifacts import Artifact
from glassrec.run import (
    Lock,
    Run,
    artifact_key,
    experiment,
    holds_results,
    read_entries,
    record_text,
    sha256,
)

A = TypeVar("A", bound=Artifact)


class Sealed(Run):
    """A finished run: nothing in it is made or written, and what is missing is an error.

    Raises:
        ValueError: the directory holds no run, or a process works in it.
    """

    def __post_init__(self) -> None:
        self.dir = Path(self.dir)
        if not holds_results(self.dir):
            raise ValueError(f"run.dir: {self.dir} holds no results; run something there first")
        path = self.dir / ".lock"
        self.lock = Lock(path if path.is_file() else self.dir / "config.yaml", shared=True)

    def once(
        self,
        name: str,
        kind: type[A],
        made_from: Mapping[str, Any],
        inputs: Sequence[str],
        make: Callable[[], A],
    ) -> A:
        """The artifact saved as `name`; ValueError if it is missing or damaged."""
        return self.read(name, kind)

    def read(self, name: str, kind: type[A]) -> A:
        """The artifact saved as `name`; ValueError if it is missing or damaged."""
        if not (self.dir / name).is_file():
            raise ValueError(f"{name} is missing")
        return kind.load(self.dir / name)

    def write(self, name: str, text: str) -> None:
        """Nothing may be written."""
        raise AssertionError(f"{name} of a run that is only read")

    def strange_files(self) -> Iterator[str]:
        """How the files differ from what the record says of them.

        Raises:
            ValueError: the record cannot be read.
        """
        record = self._record()
        written = record_text(read_entries(self.dir))
        if (self.dir / "record.json").read_text(encoding="utf-8") != written:
            yield "record.json has been edited: it is not laid out as it was written"
        for name, entry in record.items():
            path, recorded = self.dir / name, str(entry["sha256"])
            if entry.keys() != {"key", "sha256", "inputs", "settings"}:
                yield f"record.json has been edited: {name} has the entries {', '.join(entry)}"
            if not path.is_file():
                yield f"{name} is missing, and record.json has it"
            elif (found := sha256(path)) != recorded:
                yield f"{name} has changed: its sha256 is {found[:12]}…, recorded {recorded[:12]}…"

    def strange_keys(self, given: Mapping[str, Any], version: str) -> Iterator[str]:
        """Which artifacts the record says to be made of anything else than the files tell.

        Args:
            given: the hashes of what came from outside.
            version: of the Glassrec that made them.
        """
        record = self._record()
        same = {"experiment": experiment(self.config), "given": given}
        for name, entry in record.items():
            slots = {
                slot: {key: self.config.get(slot, {}).get(key) for key in keys}
                for slot, keys in entry.get("settings", {}).items()
            }
            hashes = {each: record.get(each, {}).get("sha256") for each in entry["inputs"]}
            if artifact_key(same | slots, hashes, version) != entry["key"]:
                yield name

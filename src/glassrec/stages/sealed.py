"""A run directory that is only read, and what its record says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from glassrec.artifacts import Artifact
from glassrec.config.aliases import current_keys
from glassrec.run import (
    PROVENANCE,
    Lock,
    Run,
    artifact_key,
    config_text,
    experiment,
    holds_results,
    read_entries,
    read_provenance,
    record_text,
    sha256,
    status_text,
)

A = TypeVar("A", bound=Artifact)

BESIDE = ("config.yaml", PROVENANCE, "record.json", "status.json")
"""The files of a run that are no artifacts."""

STAGES = ("train", "explain", "prune", "evaluate", "export")


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

    def forget(self, name: str) -> None:
        """Nothing may be deleted."""

    def strange_descriptions(self, version: str) -> Iterator[str]:
        """How what is written beside the artifacts differs from what it should be.

        Args:
            version: of the Glassrec that made the certificate.
        """
        config = (self.dir / "config.yaml").read_bytes()
        if config != config_text(yaml.safe_load(config) or {}).encode():
            yield "config.yaml has been edited: it is not laid out as it was written"
        recorded = read_entries(self.dir).get("config.yaml", {})
        if recorded and sha256(self.dir / "config.yaml") not in recorded.values():
            yield "config.yaml has changed: its sha256 is not the one that is recorded"
        yield from self._strange_provenance(version)
        yield from self._strange_status()

    def _strange_provenance(self, version: str) -> Iterator[str]:
        try:
            facts = read_provenance(self.dir / PROVENANCE)
        except ValueError as error:
            yield str(error)
            return
        expected = {"glassrec": version, "seed": self.config["seed"]}
        for name, value in expected.items():
            if facts.get(name) != value:
                yield f"{PROVENANCE}: {name} is {facts.get(name)}, and the run says {value}"

    def _strange_status(self) -> Iterator[str]:
        path = self.dir / "status.json"
        if not path.is_file():
            yield "status.json is missing"
            return
        text = path.read_bytes()
        try:
            facts = json.loads(text)
            known = facts["state"], facts["stage"], facts.get("problem", "")
        except (ValueError, KeyError, TypeError):
            yield "status.json is damaged"
            return
        if known[0] == "finished" and known[1] in STAGES:
            if text != status_text("finished", known[1]).encode():
                yield "status.json has been edited: it is not laid out as it was written"
        else:
            yield f"status.json: the last command did not finish: {', '.join(map(str, known))}"

    def unknown_files(self) -> list[str]:
        """Files and folders that no command of Glassrec has recorded, from the top."""
        known = {*self.recorded, *BESIDE, ".lock"}
        folders = {name.split("/")[0] for name in known if "/" in name}
        found = set()
        for path in self.dir.rglob("*"):
            name = path.relative_to(self.dir).as_posix()
            if name not in known and path.is_file():
                top = name.split("/")[0]
                found.add(name if top in folders or "/" not in name else f"{top}/")
        return sorted(found)

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
                slot: {key: self.config.get(slot, {}).get(key) for key in current_keys(slot, keys)}
                for slot, keys in entry.get("settings", {}).items()
            }
            hashes = {each: record.get(each, {}).get("sha256") for each in entry["inputs"]}
            if artifact_key(same | slots, hashes, version) != entry["key"]:
                yield name

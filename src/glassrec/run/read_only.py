"""A run directory whose files are only read: what a report, a comparison or a check needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from glassrec.artifacts.file_list import PROVENANCE, File, find
from glassrec.artifacts.formats import Artifact
from glassrec.run.provenance import read_provenance
from glassrec.run.record import read_record, refuse_changed

A = TypeVar("A", bound=Artifact)


class ReadOnlyRun:
    """The files that a run has made, as its record lists them.

    Args:
        dir: the directory of the run.
        config: its configuration, as plain values.
        written: the configuration with environment variables by their names; `config` if None.
    """

    dir: Path
    config: Mapping[str, Any]
    written: Mapping[str, Any] | None

    def __init__(
        self, dir: Path, config: Mapping[str, Any], written: Mapping[str, Any] | None = None
    ) -> None:
        self.dir, self.config, self.written = Path(dir), config, written

    @property
    def shown(self) -> Mapping[str, Any]:
        """The configuration for files and trackers: without values of environment variables."""
        return self.config if self.written is None else self.written

    @property
    def recorded(self) -> dict[str, str]:
        """The sha256 of each file that the run made, by name."""
        return {name: entry["sha256"] for name, entry in read_record(self.dir).items()}

    @property
    def files(self) -> list[File[Any]]:
        """The rows of the list of files that the run made, in the order of the record."""
        return [file for name in self.recorded if (file := find(name)) is not None]

    def has(self, *files: File[Any]) -> bool:
        """Whether the run made all of these."""
        recorded = self.recorded
        return all(file.name in recorded for file in files)

    def sha256_of(self, file: File[Any]) -> str:
        """The recorded hash of a file that the run made."""
        return self.recorded[file.name]

    def read(self, file: File[A]) -> A:
        """The content of a file.

        Raises:
            ValueError: the run did not make it, or it has been changed or damaged since.
        """
        recorded = self.recorded.get(file.name)
        if recorded is None or not (self.dir / file.name).is_file():
            raise ValueError(f"{self.dir / file.name} is missing; glassrec {file.stage} makes it")
        refuse_changed(self.dir / file.name, recorded)
        return self.load(file)

    def load(self, file: File[A]) -> A:
        """The content of a file as it is, changed or not; ValueError if missing or damaged."""
        if not (self.dir / file.name).is_file():
            raise ValueError(f"{file.name} is missing")
        return file.content.load(self.dir / file.name)

    def once(self, file: File[A], make: Callable[[], A], external: Mapping[str, Any]) -> A:
        """The content of a file as it is: nothing is made here, see `Run.once`."""
        return self.load(file)

    def forget(self, file: File[Any]) -> None:
        """Nothing is deleted here, see `Run.forget`."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the run comes from; ValueError if that is missing or was changed."""
        return read_provenance(self.dir / PROVENANCE)

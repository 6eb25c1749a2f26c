"""A run as all processes but the first see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from glassrec.artifacts.file_list import File
from glassrec.artifacts.formats import Artifact
from glassrec.processes import from_first, rank
from glassrec.run.directory import ReadOnlyRun, Run

A = TypeVar("A", bound=Artifact)


class FollowingRun(Run):
    """The directory in other processes than the first, which alone locks it and writes.

    They take part in what is made together, and read what the first has written.
    """

    def __post_init__(self) -> None:
        ReadOnlyRun.__post_init__(self)
        self.lock = ExitStack()  # type: ignore[assignment]

    def once(self, file: File[A], make: Callable[[], A], external: Mapping[str, Any]) -> A:
        """The content of the file once it is made."""
        name, is_made = from_first(lambda: ("", True))  # it says so
        assert name == file.name, "all processes ask for the same files"
        if not is_made:
            if file.together:
                make()
            from_first(bool)
        return self.load(file)

    def forget(self, file: File[Any]) -> None:
        """The first process deletes it."""

    def parts(self, file: File[Any], external: Mapping[str, Any]) -> Path:
        """The folder that the first process has made."""
        return from_first(Path)

    def write(self, name: str, text: str) -> None:
        """The first process writes it."""

    def working_on(self, stage: str) -> AbstractContextManager[None]:
        """The first process writes the status."""
        return nullcontext()


def shared_run(**given: Any) -> Run:
    """The run, in this process."""
    return (FollowingRun if rank() else Run)(**given)

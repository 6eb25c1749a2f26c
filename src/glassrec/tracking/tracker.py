"""The interface of a tracker, and the one that records nothing.

Values that cost time to compute are passed as functions, which a log calls only if it has not
recorded them before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from glassrec.process_exit import StoppedEarly, exit_code

if TYPE_CHECKING:  # the command line reads this module, and must not wait for pandas
    import pandas as pd


class TablePreview(NamedTuple):
    """The first rows of a table."""

    frame: pd.DataFrame
    """the most important rows first: a tracker with a limit records these"""
    rows: int
    """the number of rows in the file"""
    file: str
    """the file of the run with all rows"""


class Log:
    """The log of a run while it is open; this one records nothing.

    A context manager: it is closed with the exit code of the exception that passes through.
    A `version` is a hash that changes with the content.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, *__: object
                 ) -> None:  # fmt: skip
        self.close(0 if isinstance(error, StoppedEarly) else exit_code(error))

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one training epoch; `epoch` is among them."""

    def summary(self, facts: Mapping[str, float | str]) -> None:
        """Record final metrics and metadata of the run."""

    def figure(self, name: str, path: Path, version: str) -> None:
        """Record a figure."""

    def table(self, name: str, version: str, rows: Callable[[], TablePreview]) -> None:
        """Record a table."""

    def curve(
        self, axis: str, version: str, points: Callable[[], Iterable[Mapping[str, float]]]
    ) -> None:
        """Record curves over `axis`, a value of each point."""

    def artifact(self, kind: str, files: Iterable[Path], facts: Mapping[str, Any]) -> None:
        """Record files of the run, or, of the kind `data`, the metadata of its input.

        Args:
            kind: data, checkpoint, attributions or pruned; each is made from those before it.
            files: in the run's directory.
            facts: their hashes and metadata.
        """

    def close(self, code: int) -> None:
        """Record the exit code of the process."""


class Tracker(ABC):
    """The settings of a tracker."""

    @abstractmethod
    def open(self, directory: Path, config: Mapping[str, Any], stage: str) -> Log:
        """Start the log of the run in `directory`, whose command is `stage`."""


@dataclass(frozen=True)
class NoTracker(Tracker):
    """Record nowhere; the run directory holds everything."""

    def open(self, directory: Path, config: Mapping[str, Any], stage: str) -> Log:
        """A log that records nothing."""
        return Log()

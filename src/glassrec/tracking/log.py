"""Where a run reports to while it works: what may be told, and the log that forgets all of it.

What costs time to put together is handed over as a function, which a log calls only if it wants to
know and has not been told before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from glassrec.ending import StoppedEarly, exit_code

if TYPE_CHECKING:  # the command line reads this module, and must not wait for pandas
    import pandas as pd


class Shown(NamedTuple):
    """Rows to look at."""

    frame: pd.DataFrame
    """what matters most comes first: a place that holds fewer rows takes these"""
    rows: int
    """how many there are in the file"""
    file: str
    """the file of the run that has all of them"""


class Log:
    """Where a run reports to while it is open; this one forgets everything.

    A context manager: it is closed with the exit code of the exception that passes through.
    A `version` is a hash that changes when what is told does.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, *__: object
                 ) -> None:  # fmt: skip
        self.close(0 if isinstance(error, StoppedEarly) else exit_code(error))

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of one training epoch; `epoch` is among them."""

    def summary(self, facts: Mapping[str, float | str]) -> None:
        """Take in final metrics and facts of the run."""

    def figure(self, name: str, path: Path, version: str) -> None:
        """Take in a picture."""

    def table(self, name: str, version: str, rows: Callable[[], Shown]) -> None:
        """Take in a table."""

    def curve(
        self, axis: str, version: str, points: Callable[[], Iterable[Mapping[str, float]]]
    ) -> None:
        """Take in curves over `axis`, whose value each of the points has."""

    def artifact(self, kind: str, files: Iterable[Path], facts: Mapping[str, Any]) -> None:
        """Take in files that were made, or, of the kind `data`, the facts of what came in.

        Args:
            kind: data, checkpoint, attributions or pruned; each is made of those before it.
            files: lie in the run's directory.
            facts: their hashes, and what is known of them.
        """

    def close(self, code: int) -> None:
        """Say how it ended, with the exit code of the process."""


class Tracker(ABC):
    """Settings of a place to report to."""

    @abstractmethod
    def open(self, directory: Path, config: Mapping[str, Any], stage: str) -> Log:
        """Start reporting about the run in `directory`, which is asked for `stage`."""


@dataclass(frozen=True)
class NoTracker(Tracker):
    """Report nowhere; the run directory holds everything."""

    def open(self, directory: Path, config: Mapping[str, Any], stage: str) -> Log:
        """A log that forgets."""
        return Log()

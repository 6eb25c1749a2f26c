"""The interface of a tracker, the one that records nothing, and what a tracker gets about a run.

Values that cost time to compute are passed as functions, which a log calls only if it has not
recorded them before.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from glassrec.process_exit import StoppedEarly, exit_code
from glassrec.run import flat, is_path

if TYPE_CHECKING:  # the command line reads this module, and must not wait for pandas
    import pandas as pd

SWEEP = "GLASSREC_SWEEP"
"""The environment variable with the directory of the sweep that a job belongs to."""

ENCODED = ".encoded"
"""A folder there, while the sweep runs, with the encoded data that its jobs share."""

LABEL = "GLASSREC_LABEL"
"""The environment variable with the own settings of a job: `model=gmf,seed=1`."""

MAX_TAG_LETTERS = 64
"""W&B refuses a run with a longer tag."""

PRIVATE_KEYS = ("run", "tracker")
"""Config groups about where to write and to report."""

_SECRET = re.compile(
    r"(^|[._-])(key|api_?key|token|password|passwd|secret|credentials?)$", re.IGNORECASE
)
_LOGIN = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"(://[^?\s]*)\?\S*")


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

    steps: Callable[[Sequence[Mapping[str, float]]], None] | None = None
    """records points of `StepMetrics`, in order; None where nobody wants them"""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, *__: object
                 ) -> None:  # fmt: skip
        self.close(0 if isinstance(error, StoppedEarly) else exit_code(error))

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one training epoch; `epoch` is among them."""

    def settings(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Record facts beside the settings: version, commit, hash of the data."""

    def summary(self, facts: Mapping[str, float | str]) -> None:
        """Record final metrics and metadata of the run."""

    def figure(self, name: str, path: Path, version: str) -> None:
        """Record a figure."""

    def page(self, name: str, path: Path, version: str) -> None:
        """Record a page of HTML."""

    def table(self, name: str, version: str, rows: Callable[[], TablePreview]) -> None:
        """Record a table."""

    def curve(
        self, axis: str, version: str, points: Callable[[], Iterable[Mapping[str, float]]],
        name: str = "",
    ) -> None:  # fmt: skip
        """Record curves over `axis`, a value of each point; or the part of them named `name`."""

    def artifact(self, kind: str, files: Iterable[Path], facts: Mapping[str, Any]) -> None:
        """Record files of the run, or, of the kind `data`, the metadata of its input.

        The other kinds are checkpoint, attributions and pruned; each is made from those before it.
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


def run_name(directory: Path) -> tuple[str, str | None]:
    """Name and group of the run in a directory.

    A job of a sweep has the label of its own settings, and its sweep as group. One of many seeds is
    grouped with the others.
    """
    seeds = directory.parent.name if directory.name.startswith("seed_") else None
    sweep, label = (os.environ.get(name) for name in (SWEEP, LABEL))
    name = label or seeds or directory.name
    group = Path(sweep).name if sweep else seeds
    return f"{name}/{directory.name}" if seeds else name, group


def default_tags(config: Mapping[str, Any], group: str | None) -> list[str]:
    """Data and model, the seed, and the sweep, or the directory of many seeds."""
    tags = [*_classes(config).values()]
    tags += [f"seed {config['seed']}"] if "seed" in config else []
    tags += [f"sweep {group}"] if group else []
    return [*dict.fromkeys(tag[:MAX_TAG_LETTERS] for tag in tags)]


def _classes(config: Mapping[str, Any]) -> dict[str, str]:
    """The classes of data and model, in small letters."""
    paths = {part: config.get(part, {}).get("_target_") for part in ("data", "model")}
    return {part: path.rpartition(".")[2].lower() for part, path in paths.items() if path}


def tracked_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings for W&B: `model.factors` as `model/factors`, and the name of the `model`.

    W&B accepts a name with a dot, and then neither filters nor groups by it.
    """
    kept = public_values({name: node for name, node in config.items() if name not in PRIVATE_KEYS})
    names = (name for name in kept if not name.endswith("_partial_"))
    return _classes(config) | {name.replace(".", "/"): kept[name] for name in names}


def public_values(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values under dotted names, without private ones.

    Of a path the last part is kept, so that no home directory is. Names of secrets are left out,
    and addresses lose login and query.
    """
    return {n: _public(value) for n, value in flat(facts).items() if not _SECRET.search(n)}


def _public(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_public(each) for each in value]
    if isinstance(value, Mapping):  # in a list
        return public_values(value)
    if is_path(value):
        return Path(value).name
    if isinstance(value, str):
        return _QUERY.sub(r"\1", _LOGIN.sub("", value))
    return value

"""`sweep.json`: the command of a sweep, and the state of each of its jobs.

The process that runs a job, on any machine, writes the entry of the job under a lock; so the file
is right at any time.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from glassrec.artifacts.file_list import LOCK
from glassrec.run import Lock, replacing

FILE = "sweep.json"
"""In the directory of a sweep."""

State = Literal[
    "waiting", "running", "finished", "failed", "killed", "interrupted", "stopped"
]  # fmt: skip
"""Killed by a signal, interrupted by the user, or stopped early by a search."""


@dataclass
class SweepJob:
    """One job of a sweep; paths are relative to the sweep's directory."""

    number: int
    """from 1"""
    label: str
    """the settings that differ: `model=gmf,seed=0`"""
    words: Sequence[str]
    """the command line, after `glassrec`"""
    run: str | None
    """the directory of its run, or of the runs of its seeds"""
    log: str
    state: State = "waiting"
    code: int | None = None
    started: float | None = None
    """seconds since 1970"""
    seconds: float | None = None
    """how long it took"""
    problem: str = ""
    """the reason of a failure, in a line"""
    values: Sequence[float] | None = None
    """of each objective of a search"""

    @property
    def ended(self) -> bool:
        """Whether it ended, well or not."""
        return self.state not in ("waiting", "running")

    @property
    def failed(self) -> bool:
        """Whether it failed by itself."""
        return self.state in ("failed", "killed")


@dataclass
class SweepRecord:
    """The command of a sweep, and its jobs in the order of their numbers."""

    command: Sequence[str]
    folder: str
    """where the command was given: paths in it are relative to that"""
    jobs: list[SweepJob]
    objectives: Sequence[dict[str, Any]] = field(default_factory=list)
    """of a search: `metric` and `direction` of each"""


def read(directory: Path) -> SweepRecord:
    """The record of a sweep, which is there."""
    record = load_record(directory)
    assert record is not None
    return record


def load_record(directory: Path) -> SweepRecord | None:
    """The record of a sweep, None if there is none; ValueError if it is damaged."""
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return SweepRecord(**facts | {"jobs": [SweepJob(**job) for job in facts["jobs"]]})
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path} is damaged; delete it to have the sweep planned anew") from None


def write(directory: Path, record: SweepRecord) -> None:
    """Write the record, whole or not at all."""
    with replacing(directory / FILE) as part:
        part.write_text(json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n", "utf-8")


@contextmanager
def update(directory: Path) -> Iterator[SweepRecord]:
    """The record of a sweep, to be changed inside; others who change it wait meanwhile."""
    with (directory / f".{FILE}{LOCK}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = read(directory)
        yield record
        write(directory, record)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep others from working on the same sweep; ValueError if another process does."""
    directory.mkdir(parents=True, exist_ok=True)
    with closing(Lock(directory / LOCK)):
        yield

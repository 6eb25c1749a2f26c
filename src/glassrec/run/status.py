"""`status.json`: for others, how far a run is and how it ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from glassrec.artifacts.file_list import STAGES, STATUS
from glassrec.process_exit import StoppedEarly
from glassrec.run.files import replacing


class Status:
    """The status of a run, as one command writes it.

    A finished run stays finished until something is made: a command that finds all of it there, or
    that fails before it makes anything, changes nothing.
    """

    def __init__(self, directory: Path, hide: Callable[[str], str] = str) -> None:
        self.path, self._hide = directory / STATUS, hide
        self._stage = ""
        self._is_written = False

    @contextmanager
    def working_on(self, stage: str) -> Iterator[None]:
        """Write that the stage is running, and how it ended."""
        self._stage, self._is_written = stage, False
        if self._read().get("state") != "finished":
            self.start()
        try:
            yield
        except BaseException as error:
            if self._is_written:
                with suppress(OSError):  # the error that is raised says more
                    first_line = next(iter(str(error).splitlines()), type(error).__name__)
                    self._write(_state_after(error), first_line)
            raise
        if self._is_written or self._is_later(stage):
            self._write("finished")

    def start(self) -> None:
        """Write that the stage is running, if that was not done: something is about to be made."""
        if self._stage and not self._is_written:
            self._write("running")
            self._is_written = True

    def _is_later(self, stage: str) -> bool:
        """Whether a stage is another than the finished one, and none of those before it."""
        found = self._read().get("stage")
        places = [STAGES.index(each) if each in STAGES else len(STAGES) - 1
                  for each in (stage, found)]  # fmt: skip
        return found != stage and places[0] >= places[1]

    def _read(self) -> dict[str, Any]:
        try:
            status = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return status if isinstance(status, dict) else {}

    def _write(self, state: str, problem: str = "") -> None:
        text = status_text(state, self._stage, self._hide(problem))
        try:
            with replacing(self.path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError:
            # On a full disk there is no room for a second file, but there is in the block of this.
            with self.path.open("r+", encoding="utf-8") as file:
                file.write(text)
                file.truncate()


def status_text(state: str, stage: str, problem: str = "") -> str:
    """The file as it is written."""
    status = {"state": state, "stage": stage} | ({"problem": problem} if problem else {})
    return json.dumps(status, indent=1, ensure_ascii=False) + "\n"


def _state_after(error: BaseException) -> str:
    if isinstance(error, StoppedEarly):
        return "stopped"
    # An output is closed by `head`, or with its terminal.
    return "interrupted" if isinstance(error, KeyboardInterrupt | BrokenPipeError) else "failed"

"""The lock of a directory: one process works in it, with the processes that it starts."""

from __future__ import annotations

import fcntl
import os
from multiprocessing.reduction import DupFd
from pathlib import Path
from time import sleep
from typing import Any

FILE = ".lock"


class Lock:
    """A lock that is held until this process has closed it and those that it was sent to are gone.

    `multiprocessing` sends it to a process that it starts, as an open file: locks of `flock` belong
    to the open file, so that there is no moment at which the directory is free while one is alive.

    Args:
        path: the file.
        shared: whether others may hold it, too, if they share it as well.

    Raises:
        ValueError: another process holds it.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        flags = os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT
        self._file = os.fdopen(os.open(path, flags, 0o666))
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        for last in (False, False, True):
            try:
                fcntl.flock(self._file, kind | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if last:
                    self.close()
                    message = f"another process is working in {path.parent}; wait for it"
                    raise ValueError(message) from None
                sleep(0.1)  # `at_work` holds it for a moment

    def __getstate__(self) -> dict[str, Any]:
        return {"sent": DupFd(self._file.fileno())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._file = os.fdopen(state["sent"].detach())

    def close(self) -> None:
        """Give it up, as far as this process holds it."""
        self._file.close()


def at_work(directory: Path) -> bool:
    """Whether a process works in a run directory."""
    path = directory / FILE
    if not path.is_file():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

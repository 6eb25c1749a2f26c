"""Files that are whole or not there, their hashes, and the lock of a directory."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.reduction import DupFd
from pathlib import Path
from time import sleep
from typing import Any

from glassrec.artifacts.file_list import LOCK
from glassrec.failures import write_error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place, whole or not at all.

    Its name is always the same, so that what a killed process left is written over by the next.

    Raises:
        WriteError: the disk is full, or does not allow it.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        mode = part.stat().st_mode  # the user's umask decides; some writers set another mode
        yield part
        part.chmod(mode)
        _flush(part)
        part.replace(path)
        _flush(path.parent)
    except Exception as error:
        if (problem := write_error(path, error)) is None:
            raise
        raise problem from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Make the content of a file, or the names in a directory, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Lock:
    """A lock, held until this process has closed it and those that it was sent to have ended.

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
                sleep(0.1)  # `is_locked` holds it for a moment

    def __getstate__(self) -> dict[str, Any]:
        return {"sent": DupFd(self._file.fileno())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._file = os.fdopen(state["sent"].detach())

    def close(self) -> None:
        """Give it up, as far as this process holds it."""
        self._file.close()


def is_locked(directory: Path) -> bool:
    """Whether a process works in a run directory."""
    path = directory / LOCK
    if not path.is_file():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

"""Failures of the machine and not of the code: memory and disks; each is a line with a way out."""

from __future__ import annotations

import errno
import os
import re
import select
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|cannot allocate memory|std::bad_alloc",
    re.IGNORECASE,
)
"""Messages of PyTorch's allocators, of CUDA and of the C++ library."""

_NO_SPACE = "free some space there, or choose a directory (run.dir) on another disk"
_NO_RIGHTS = "choose a directory (run.dir) where you may write"
_REMEDIES = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), or choose another run.dir",
    errno.EROFS: _NO_RIGHTS,
    errno.EACCES: _NO_RIGHTS,
    errno.EPERM: _NO_RIGHTS,
    errno.EIO: "check the disk, or choose a directory (run.dir) on another one",
}


class OutOfMemoryError(MemoryError):
    """No memory was left; the message names the settings that need less."""


class WriteError(OSError):
    """A file could not be written; the message names it, the reason and a way out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy, PyArrow, PyTorch or CUDA had no memory left."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))


def free_memory() -> float:
    """The bytes of memory that are free on this machine; infinite where the system has no count."""
    status = Path("/proc/meminfo")
    known = status.read_text().split("MemAvailable:")[1] if status.exists() else ""
    return int(known.split()[0]) * 1024 if known else inf


@contextmanager
def memory_needed(activity: str, settings: str) -> Iterator[None]:
    """Raise `OutOfMemoryError` where the block has no memory left.

    Args:
        activity: what it is needed for: `training`.
        settings: whose smaller values need less; the innermost block names them.
    """
    try:
        yield
    except OutOfMemoryError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"out of memory in {activity}: {_first_line(error)}; lower {settings}"
        ) from error


def write_error(path: Path, error: Exception) -> WriteError | None:
    """What is to be raised where writing `path` failed; None if it is no failure of the disk."""
    number = _number(error, path)
    if number not in _REMEDIES:
        return None
    reason = os.strerror(number)
    return WriteError(f"{path} cannot be written: {reason}; {_REMEDIES[number]}")


def _number(error: BaseException | None, path: Path) -> int:
    """The error number of the system, 0 if there is none; C++ and Rust write it into messages."""
    while error is not None and not isinstance(error, WriteError):
        if isinstance(error, OSError) and error.errno is not None:
            named = path if error.filename is None else Path(os.fsdecode(error.filename))
            ours = named.parent == path.parent or path.is_relative_to(named)
            return error.errno if ours else 0
        if found := re.search(r"\[errno (\d+)\]|\(os error (\d+)\)", str(error), re.IGNORECASE):
            return int(found[1] or found[2])
        error = error.__context__  # PyTorch complains of its archive, after its file did
    return 0


def is_of_output(error: OSError) -> bool:
    """Whether standard output or error could not be written: it is closed, or its disk is full.

    An error of a file that is opened by name has the name, and `replacing` names those it writes.
    """
    if isinstance(error, BrokenPipeError):
        poll = select.poll()
        for handle in (1, 2):
            poll.register(handle, 0)  # errors are always reported
        return bool(poll.poll(0))
    return type(error) is OSError and error.filename is None and error.errno in _REMEDIES


def _first_line(error: BaseException) -> str:
    """Of C++ errors, the message without the place in the source: `[enforce fail at ...] `."""
    line = next(iter(str(error).splitlines()), "")
    return re.sub(r"^\[enforce fail at [^\]]*\] *(\. )?", "", line) or type(error).__name__


def describe(error: BaseException) -> str:
    """Why there was no memory, as a line for the user."""
    if isinstance(error, OutOfMemoryError):
        return str(error)
    return (
        f"out of memory: {_first_line(error)}; lower the size of the model, of its batches "
        "(trainer.batch_size) or of the data, or use a machine with more memory"
    )

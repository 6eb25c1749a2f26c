"""Files that are whole or not there, and their hashes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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

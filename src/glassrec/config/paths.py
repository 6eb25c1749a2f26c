"""Whether a path can be used, checked before anything is read or written."""

from __future__ import annotations

import os
from pathlib import Path

from glassrec.artifacts.file_list import CONFIG
from glassrec.config.errors import ConfigError
from glassrec.run import cut_directory

NAME_BYTES = 255
PATH_BYTES = 4096 - 256
"""The limits of Linux file systems; 256 bytes are for the names of the files in a run."""


def absolute(text: str) -> Path:
    """The absolute path that a text means; `~` is the home directory.

    Raises:
        ValueError: no file system can hold it; the message is what it must be.
    """
    if not text or "\0" in text:
        raise ValueError("a path without NUL characters" if text else "a path")
    try:
        path = Path(text).expanduser().absolute()
        longest = max(len(os.fsencode(part)) for part in path.parts)
    except (RuntimeError, UnicodeError):
        raise ValueError("a path; there is no such home directory, or it is not text") from None
    if longest > NAME_BYTES or len(os.fsencode(path)) > PATH_BYTES:
        raise ValueError(f"a path of at most {PATH_BYTES} bytes, {NAME_BYTES} in each name")
    return path


def run_directory(directory: Path, cut: str | None = None) -> Path:
    """The absolute path of a run, or of one of its cuts.

    Raises:
        ConfigError: it is no run; the message names the runs of seeds in it.
        UsageError: it has no such cut; the message names those that it has.
    """
    path = directory.expanduser().absolute()
    if not (path / CONFIG).is_file():
        seeds = sorted(each.parent.name for each in path.glob(f"seed_*/{CONFIG}"))
        hint = f"; it holds {', '.join(seeds)}: name one of them" if seeds else ""
        raise ConfigError(f"run.dir: {path} is no run directory, it holds no {CONFIG}{hint}")
    return path if cut is None else cut_directory(path, cut)


def not_writable(directory: Path) -> str:
    """Why no file can be written into a directory, which need not exist; or nothing."""
    there = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
    if not there.is_dir():
        return f"{there} is not a directory"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} is not writable"


def usable(key: str, value: str) -> Path:
    """The path that an argument names, as it is written; ConfigError if there is no such path."""
    try:
        absolute(value)
    except ValueError as error:
        shown = f"{value[:100]!r}{'...' * (len(value) > 100)}"
        raise ConfigError(f"{key}: {shown} is not allowed; must be {error}") from None
    return Path(value).expanduser()

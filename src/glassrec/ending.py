"""How a process ends: its exit codes, and SIGTERM as an exception that lets it end in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STOPPED, INTERRUPTED = 3, 130
TERMINATED = 143
"""128 + the number of the signal, as shells count."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: somebody else's Ctrl-C, and all that minds the one minds the other."""

    def __str__(self) -> str:
        return "terminated by SIGTERM"


class StoppedEarly(Exception):  # noqa: N818  it is no error
    """Training was ended on purpose, as a search has better settings; no stage follows it."""


@contextmanager
def orderly() -> Iterator[None]:
    """Within, SIGTERM raises `Terminated`, once; a second one does not disturb the ending.

    Lightning puts a handler of its own before ours while it trains, calls ours after it, and then
    puts ours back. Other threads than the main one cannot handle signals: there nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(*_: object) -> None:
        nonlocal asked
        if asked:
            return
        asked = True
        if _hold.depth:
            _hold.asked = True
        else:
            raise Terminated

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class _Hold:
    depth: int = 0
    asked: bool = False


_hold = _Hold()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within `orderly`, let SIGTERM wait until this is done: two things that belong together."""
    _hold.depth += 1
    try:
        yield
    finally:
        _hold.depth -= 1
    if _hold.asked and not _hold.depth:
        _hold.asked = False
        raise Terminated


def exit_code(error: BaseException | None) -> int:
    """The exit code of a process that ends with this exception."""
    match error:
        case None:
            return 0
        case StoppedEarly():
            return STOPPED
        case Terminated():
            return TERMINATED
        case KeyboardInterrupt():
            return INTERRUPTED
        case SystemExit(code=int(code)):
            return code
        case SystemExit(code=None):
            return 0
    return 1

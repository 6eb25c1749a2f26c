"""The exit of a process: its exit codes, and signals as exceptions, for a graceful shutdown."""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

STOPPED, INTERRUPTED, OUTPUT_CLOSED, TERMINATED = 3, 130, 141, 143
"""From 128 on: 128 + the number of the signal, as shells count."""

LIMIT = 30.0
"""Seconds after a signal within which a process has to end in order. Process managers allow as much
(SLURM, Kubernetes) or less (Docker) before they kill."""

LOOK_EVERY = 0.05
"""Seconds between two looks, after a signal, for an exception that was swallowed."""


class Interrupted(KeyboardInterrupt):
    """SIGINT, Ctrl-C in a terminal."""

    code = INTERRUPTED

    def __str__(self) -> str:
        return "interrupted"


class Terminated(KeyboardInterrupt):
    """SIGTERM: all code that handles Ctrl-C handles it in the same way."""

    code = TERMINATED

    def __str__(self) -> str:
        return "terminated by SIGTERM"


class UsageError(ValueError):
    """The command is not possible, and nothing was made: the exit code is 2."""


class StoppedEarly(Exception):  # noqa: N818  it is no error
    """Training was ended on purpose, as a search has better settings; no stage follows it."""


_RAISED: dict[int, type[Interrupted] | type[Terminated]] = {
    signal.SIGINT: Interrupted,
    signal.SIGTERM: Terminated,
}
_DEFAULT = (signal.default_int_handler, signal.SIG_DFL)


@contextmanager
def graceful_shutdown() -> Iterator[None]:
    """Within, SIGINT raises `Interrupted` and SIGTERM `Terminated`, so that cleaning up is done.

    The exception may be swallowed: Python ignores all that a finaliser (`__del__`) or the callback
    of a weak reference raises, and some code catches everything. Then it is raised again, until the
    block is left. A second signal does not disturb the cleaning up; a third one ends the process at
    once, as does the time limit `LIMIT`.

    Signals that are ignored stay ignored, and SIGINT is left to a handler of another library.
    Other threads than the main one cannot handle signals: there nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    shutdown = _Shutdown()
    before = {
        number: signal.signal(number, shutdown)
        for number in _RAISED
        if signal.getsignal(number) in _DEFAULT
        or (number == signal.SIGTERM and signal.getsignal(number) is not signal.SIG_IGN)
    }
    watchdog = threading.Thread(target=shutdown.watch, daemon=True)
    watchdog.start()
    report = sys.unraisablehook
    sys.unraisablehook = lambda ignored: None if _is_ours(ignored.exc_type) else report(ignored)
    try:
        yield
        shutdown.raise_if_swallowed()
    finally:
        shutdown.over = True
        shutdown.wake.put(None)
        watchdog.join()
        sys.unraisablehook = report
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_ours(error: type[BaseException] | None) -> bool:
    return error is not None and issubclass(error, Interrupted | Terminated)


@dataclass
class _Shutdown:
    """The handler of signals of one block, and the state that it shares with its watchdog."""

    signals: int = 0
    """how many were received"""
    number: int = 0
    """the first of them"""
    error: weakref.ref[KeyboardInterrupt] | None = None
    """The exception that was raised for it. An exception that is on its way up, or the context of
    another one, is alive; one that was swallowed is not."""
    repeated: bool = False
    """whether the next call of the handler is the watchdog's"""
    over: bool = False
    wake: SimpleQueue[None] = field(default_factory=SimpleQueue)
    """gets an item at the first signal, and when the block is left"""

    def __call__(self, number: int, _: object) -> None:
        """Handle a signal. It takes no lock: the interrupted code may hold it."""
        if self.over:
            return
        if self.repeated:
            self.repeated = False
        else:
            self.signals += 1
            if self.signals == 1:
                self.number = number
                self.wake.put(None)
        if self.error is None and _deferred.depth:
            _deferred.shutdown = self
        elif self.error is None or self.swallowed:
            self.throw()
        elif self.signals > 2:
            os._exit(128 + self.number)

    def throw(self) -> None:
        """Raise the exception of the first signal."""
        error = _RAISED[self.number]()
        self.error = weakref.ref(error)
        try:
            raise error
        finally:
            del error  # its traceback has this frame, and the two would keep each other alive

    @property
    def swallowed(self) -> bool:
        """Whether the exception was raised, and is no more."""
        return self.error is not None and self.error() is None

    def raise_if_swallowed(self) -> None:
        """Raise the exception again, where the block is left without one."""
        if self.signals:
            self.throw()

    def watch(self) -> None:
        """From the first signal on: repeat what was swallowed, and end what does not end."""
        self.wake.get()
        looks = 0
        while not self.over:
            if looks * LOOK_EVERY > LIMIT:
                line = f"no graceful shutdown within {LIMIT:.0f} s; ended at once"
                os.write(2, f"glassrec: error: {line}\n".encode())
                os._exit(128 + self.number)
            if self.swallowed:
                self.repeated = True
                interrupt_main(signal.Signals(self.number))
            with suppress(Empty):
                self.wake.get(timeout=LOOK_EVERY)
            looks += 1


@dataclass
class _Deferred:
    depth: int = 0
    shutdown: _Shutdown | None = None


_deferred = _Deferred()


@contextmanager
def defer_signals() -> Iterator[None]:
    """Let the signals of `graceful_shutdown` wait: what is done inside belongs together."""
    _deferred.depth += 1
    try:
        yield
    finally:
        _deferred.depth -= 1
    if _deferred.shutdown is not None and not _deferred.depth:
        shutdown, _deferred.shutdown = _deferred.shutdown, None
        shutdown.throw()


def exit_code(error: BaseException | None) -> int:
    """The exit code of a process that ends with this exception."""
    match error:
        case None | SystemExit(code=None):
            return 0
        case StoppedEarly():
            return STOPPED
        case Interrupted() | Terminated():
            return error.code
        case KeyboardInterrupt():
            return INTERRUPTED
        case SystemExit(code=int(code)):
            return code
    return 1

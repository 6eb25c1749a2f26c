"""Ctrl-C and SIGTERM, told to the jobs of a sweep wherever they are.

The sweep's process writes a file; whoever supervises a job looks for it, in another process or on
another machine. So jobs end as they would alone, the launchers see nothing unusual, and the sweep
still writes its table. A launcher left to itself kills all it has started at the first Ctrl-C.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from glassrec.run import replacing


def file(directory: Path) -> Path:
    """It holds the number of the signal that the jobs of the sweep are to end with."""
    return directory / "stop"


def wanted(stop: Path | None) -> int:
    """The signal that running jobs are to end with, and no other to start; 0 if there is none."""
    return int(stop.read_text(encoding="utf-8")) if stop is not None and stop.is_file() else 0


class Stopping:
    """Whether the sweep was told to stop."""

    def __init__(self, directory: Path) -> None:
        self.file = file(directory)
        self.code = 0
        """the exit code that says so: 130 or 143"""

    def __call__(self, number: int, _: FrameType | None) -> None:
        """End the jobs, and start no other; the second time kill them, and leave."""
        first, self.code = not self.code, self.code or 128 + number
        with replacing(self.file) as part:
            part.write_text(str(number if first else signal.SIGKILL.value), encoding="utf-8")
        if not first:
            raise KeyboardInterrupt
        print("\nstopping: the running jobs are told to end; once more kills them", file=sys.stderr)


@contextmanager
def stoppable(directory: Path) -> Iterator[Stopping]:
    """Ctrl-C and SIGTERM end the jobs of the sweep, and not this process."""
    stopping = Stopping(directory)
    stopping.file.unlink(missing_ok=True)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        heard = []  # Python hears signals in its main thread alone
    for number in heard:
        signal.signal(number, stopping)
    try:
        yield stopping
    finally:
        for number in heard:
            signal.signal(number, before[number])


def deafen() -> None:
    """Leave signals to the sweep's own process: a terminal and `timeout` send them to all."""
    if threading.current_thread() is not threading.main_thread():
        return
    unminded = (signal.default_int_handler, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in unminded:
            signal.signal(number, lambda *_: None)  # not ignored: a job would inherit that

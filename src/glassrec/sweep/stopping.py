"""Ctrl-C and SIGTERM, passed on to the jobs of a sweep wherever they are.

The process of the sweep writes a file, and the process that supervises a job looks for it, on this
machine or another one. So jobs end as they would alone, executors notice nothing unusual, and the
sweep still writes its table.
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
    """The file that holds the number of the signal by which the jobs of the sweep end."""
    return directory / "stop"


def stop_requested(stop: Path | None) -> int:
    """The signal by which running jobs end and after which none starts; 0 if there is none."""
    return int(stop.read_text(encoding="utf-8")) if stop is not None and stop.is_file() else 0


class StopHandler:
    """The handler of signals of a sweep."""

    def __init__(self, directory: Path) -> None:
        self.file = file(directory)
        self.code = 0
        """the exit code of a sweep that was stopped: 130 or 143"""

    def __call__(self, number: int, _: FrameType | None) -> None:
        """End the jobs, and start no other; the second time kill them, and leave."""
        first, self.code = not self.code, self.code or 128 + number
        with replacing(self.file) as part:
            part.write_text(str(number if first else signal.SIGKILL.value), encoding="utf-8")
        if not first:
            raise KeyboardInterrupt
        print("\nstopping: the running jobs end; once more kills them", file=sys.stderr)


@contextmanager
def stoppable(directory: Path) -> Iterator[StopHandler]:
    """Ctrl-C and SIGTERM end the jobs of the sweep, and not this process."""
    stopping = StopHandler(directory)
    stopping.file.unlink(missing_ok=True)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        handled = []  # Python handles signals in its main thread alone
    for number in handled:
        signal.signal(number, stopping)
    try:
        yield stopping
    finally:
        for number in handled:
            signal.signal(number, before[number])


def ignore_signals() -> None:
    """Leave signals to the process of the sweep: a terminal and `timeout` send them to all."""
    if threading.current_thread() is not threading.main_thread():
        return
    defaults = (signal.default_int_handler, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in defaults:
            signal.signal(number, lambda *_: None)  # not ignored: a job would inherit that

"""One job of a sweep or a search: a process with a log of its own, and how it is stopped.

On Ctrl-C and SIGTERM the process of the sweep writes a file, and the process that supervises a job
looks for it, on this machine or another one. So jobs end as they would alone.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep, time
from types import FrameType
from typing import NamedTuple

from glassrec.run import is_locked, replacing
from glassrec.sweep.sweep_record import State, SweepJob, update
from glassrec.sweep.warm_process import WarmProcess
from glassrec.tracking.tracker import LABEL, SWEEP

PROGRAM = "glassrec"

POLL_SECONDS = 0.25
"""Time between two looks for a request to stop."""


class Outcome(NamedTuple):
    """How a job ended."""

    state: State
    code: int
    """the exit code; of a killed process, the signal, negative"""
    seconds: float
    problem: str = ""
    """the reason of a failure, in a line"""


def run_numbered(directory: str, number: int) -> None:
    """Run a job in a process of an executor's, to which a terminal sends Ctrl-C too."""
    ignore_signals()
    run_job(Path(directory), number)


def run_job(
    directory: Path,
    number: int,
    environment: Mapping[str, str] | None = None,
    judge: Callable[[SweepJob], None] = lambda _: None,
) -> SweepJob:
    """Run a job of the sweep in `directory`, unless it was stopped, and record how the job ended.

    `judge` completes the entry of the job before it is written.
    """
    stop = stop_file(directory)
    with update(directory) as record:
        job, folder = record.jobs[number - 1], Path(record.folder)
        if stop_requested(stop):
            return job
        job.state, job.started = "running", time()
        job.code, job.seconds, job.problem = None, None, ""
    variables = {SWEEP: str(directory), LABEL: job.label, **(environment or {})}
    outcome = Outcome("interrupted", 130, 0.0)  # if the executor is, by no OSError
    try:
        _wait_for(directory / job.run if job.run else None, stop)
        outcome = supervise(job.words, directory / job.log, variables, folder=folder, stop=stop)
    except OSError as error:  # it could not be started
        outcome = Outcome("failed", 1, 0.0, str(error))
    finally:
        job.state, job.code, job.seconds, job.problem = outcome
        judge(job)
        with update(directory) as record:
            record.jobs[number - 1] = job
    return job


def _wait_for(run: Path | None, stop: Path) -> None:
    """Wait for an earlier job, which went on alone when its sweep was killed."""
    reported = False
    while run is not None and is_locked(run) and not stop_requested(stop):
        if not reported:
            print(f"waiting for another process, which works in {run}", flush=True)
        reported = True
        sleep(1)


def supervise(
    words: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    stop: Path | None = None,
) -> Outcome:
    """Run `glassrec` with these words in a process of its own, and wait for its end.

    The process has a session of its own, so that Ctrl-C in a terminal comes to it only from here:
    an exception in this process ends the job before it goes on.

    Args:
        words: the command line, after the program.
        log: gets all that the job prints, after what is there.
        environment: variables that the job has besides our own.
        folder: where the job works; here, if None.
        stop: see `stop_file`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = perf_counter()
    before = log.stat().st_size if log.is_file() else 0
    process = WarmProcess(
        PROGRAM, words, log.absolute(), folder or Path.cwd(), {**os.environ, **(environment or {})}
    )
    code, stopped = _wait_for_end(process, stop)
    state = _state(code, stopped)
    problem = "" if state in ("finished", "interrupted") else _problem(code, log, before)
    return Outcome(state, code, perf_counter() - began, problem)


def _wait_for_end(process: WarmProcess, stop: Path | None) -> tuple[int, bool]:
    sent = 0
    while True:
        try:
            if (code := process.wait(POLL_SECONDS)) is not None:
                return code, bool(sent)
            if (number := stop_requested(stop)) != sent:
                sent = number
                process.send(sent)
        except BaseException as error:  # an interrupt of ours: the job ends first
            own = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
            process.send(stop_requested(stop) or own)
            process.wait()
            raise


def _state(code: int, stopped: bool) -> State:
    if code == 0:
        return "finished"
    if stopped or code in (130, 143):
        return "interrupted"
    return "killed" if code < 0 else "failed"


_SIGNALS = {
    -signal.SIGKILL: "killed by SIGKILL (out of memory?)",
    -signal.SIGSEGV: "segmentation fault",
}


def _problem(code: int, log: Path, start: int) -> str:
    """The reason of a failure, from the exit code or from the log after `start`."""
    if code < 0:
        return _SIGNALS.get(code, f"killed by {signal.Signals(-code).name}")
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    reported = re.findall(r"^glassrec: error: (.+)", text, re.M)
    raised = re.findall(r"^Traceback \(most recent.*\n(?:[ \t].*\n|\n)*(\S.*)", text, re.M)
    return next((lines[-1].strip() for lines in (reported, raised) if lines), f"exit code {code}")


def stop_file(directory: Path) -> Path:
    """The file that holds the number of the signal by which the jobs of the sweep end."""
    return directory / "stop"


def stop_requested(stop: Path | None) -> int:
    """The signal by which running jobs end and after which none starts; 0 if there is none."""
    return int(stop.read_text(encoding="utf-8")) if stop is not None and stop.is_file() else 0


class StopHandler:
    """The handler of signals of a sweep."""

    def __init__(self, directory: Path) -> None:
        self.file = stop_file(directory)
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
    is_main = threading.current_thread() is threading.main_thread()  # no other handles signals
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {n: each for n, each in before.items() if is_main and each is not signal.SIG_IGN}
    for number in handled:
        signal.signal(number, stopping)
    try:
        yield stopping
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Leave signals to the process of the sweep: a terminal and `timeout` send them to all."""
    if threading.current_thread() is not threading.main_thread():
        return
    defaults = (signal.default_int_handler, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in defaults:
            signal.signal(number, lambda *_: None)  # not ignored: a job would inherit that

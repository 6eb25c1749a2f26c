"""One job of many: a fresh process with a log of its own, whose end is told and never raised."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Literal, NamedTuple

from glassrec.sweep.stopping import wanted

PROGRAM = (sys.executable, "-m", "glassrec")

LOOK_EVERY = 0.25
"""Seconds between two looks for a wish that the job end."""

State = Literal["finished", "failed", "killed", "interrupted"]


class Outcome(NamedTuple):
    """How a job ended."""

    state: State
    code: int
    """the exit code; of a killed process, the signal, negative"""
    seconds: float
    problem: str = ""
    """what went wrong, in a line"""


def supervise(
    words: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    stop: Path | None = None,
) -> Outcome:
    """Run `glassrec` with these words in a fresh process, and wait for its end.

    The process has a session of its own, so that Ctrl-C in a terminal comes to it only from here:
    an exception in this process ends the job before it goes on.

    Args:
        words: the command line, after the program.
        log: gets all that the job prints; a log of before is kept above it.
        environment: variables that the job has besides our own.
        folder: where the job works; here, if None.
        stop: a file that, once it is there, holds the number of the signal to end the job with.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = perf_counter()
    variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
    with log.open("ab") as file:
        before = file.tell()
        process = subprocess.Popen(
            [*PROGRAM, *words], cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        code, stopped = _ended(process, stop)
    state = "interrupted" if stopped and code else _state(code)
    problem = "" if state in ("finished", "interrupted") else _problem(code, log, before)
    return Outcome(state, code, perf_counter() - began, problem)


def _ended(process: subprocess.Popen[bytes], stop: Path | None) -> tuple[int, bool]:
    """The exit code of a process, and whether it was told to end."""
    told = 0
    while True:
        try:
            return process.wait(LOOK_EVERY), bool(told)
        except subprocess.TimeoutExpired:
            wish = wanted(stop)
            if wish != told:
                told = wish
                _send(process, told)
        except BaseException as error:  # an interrupt of ours: the job ends first
            own = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
            _send(process, wanted(stop) or own)
            process.wait()
            raise


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    """To the whole group, as a terminal does it: the job may have processes of its own."""
    if process.poll() is None:
        os.killpg(process.pid, number)


def _state(code: int) -> State:
    if code == 0:
        return "finished"
    if code in (130, 143):
        return "interrupted"
    return "killed" if code < 0 else "failed"


_SIGNALS = {
    -signal.SIGKILL: "killed by SIGKILL (out of memory?)",
    -signal.SIGSEGV: "segmentation fault",
}


def _problem(code: int, log: Path, start: int) -> str:
    """What went wrong, from the exit code or from what the log holds after `start`."""
    if code < 0:
        return _SIGNALS.get(code, f"killed by {signal.Signals(-code).name}")
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    told = re.findall(r"^glassrec: error: (.+)", text, re.M)
    raised = re.findall(r"^Traceback \(most recent.*\n(?:[ \t].*\n|\n)*(\S.*)", text, re.M)
    return next((lines[-1].strip() for lines in (told, raised) if lines), f"exit code {code}")

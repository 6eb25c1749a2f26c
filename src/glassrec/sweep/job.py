"""One job of many: a fresh process with a log of its own, whose end is told and never raised."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Literal, NamedTuple

SWEEP = "GLASSREC_SWEEP"
"""The variable that tells a job the directory of the sweep that it belongs to."""

State = Literal["finished", "failed", "killed", "interrupted"]


class Outcome(NamedTuple):
    """How a job ended."""

    state: State
    code: int
    """the exit code; of a killed process, the signal, negative"""
    seconds: float


def supervise(
    words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Outcome:
    """Run `glassrec` with these words in a fresh process, and wait for its end.

    Args:
        words: the command line, after the program.
        log: gets all that the job prints; a log of before is kept above it.
        environment: variables that the job has besides our own.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = perf_counter()
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "glassrec", *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )
        code = process.wait()
    return Outcome(_state(code), code, perf_counter() - began)


def _state(code: int) -> State:
    if code == 0:
        return "finished"
    if code == 130:
        return "interrupted"
    return "killed" if code < 0 else "failed"

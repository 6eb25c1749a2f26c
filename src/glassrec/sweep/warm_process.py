"""A process for each job, forked from one that has imported what all jobs need.

The imports take as long as a small job. The fork server of multiprocessing imports once, and
computes nothing; each job is forked from it into a session of its own, and a crash ends it alone.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import connection, resource_tracker
from pathlib import Path

from glassrec.config.user_modules import search_path

IMPORTS = [
    "captum.attr", "glassrec.pipeline", "glassrec.cli", "glassrec.config.compose",
    "glassrec.training.loop", "glassrec.report.run_report", "matplotlib.pyplot", "torch._dynamo",
    "scipy.stats",
]  # fmt: skip
"""The slow imports of a job; the fork server passes over one that fails."""

_SIGNALS = {signal.SIGINT, signal.SIGTERM}
"""A terminal and `timeout` send them to the fork server, too, which shall outlive its jobs."""

_LOCK = threading.Lock()  # of two threads that ask at once, one would not get the exit code


class WarmProcess:
    """A process that runs a program as `python -m` or `python FILE` does, and has a session.

    Args:
        program: a module, or a file that ends in `.py`.
        words: its arguments.
        log: gets its output, after what is there.
        folder: where it works.
        variables: all of its environment.
    """

    def __init__(
        self, program: str, words: Sequence[str], log: Path, folder: Path,
        variables: Mapping[str, str],
    ) -> None:  # fmt: skip
        context = multiprocessing.get_context("forkserver")
        given = (program, [*words], str(log), str(folder), dict(variables), search_path())
        self._process = context.Process(target=_run, args=given)
        resource_tracker.ensure_running()  # as it starts with a process, it unblocks the signals
        with _LOCK:
            context.set_forkserver_preload(IMPORTS)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code, a signal as a negative number; None if it runs on after `seconds`."""
        connection.wait([self._process.sentinel], seconds)
        with _LOCK:
            return self._process.exitcode

    def send(self, number: int) -> None:
        """Send a signal to the whole session: a job may have processes of its own."""
        if self.wait(0) is None:
            assert self._process.pid is not None, "it was started"
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:  # it has no session yet
                os.kill(self._process.pid, number)


def _run(
    program: str, words: Sequence[str], log: str, folder: str, variables: Mapping[str, str],
    path: Sequence[str],
) -> None:  # fmt: skip
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path[:] = path
    if number := variables.get("OMP_NUM_THREADS"):  # OpenMP was loaded before
        import torch

        torch.set_num_threads(int(number))
    sys.argv = [program, *words]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)

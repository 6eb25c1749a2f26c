"""A process for each of several devices: started, watched, and never outliving this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess, active_children

import torch.multiprocessing  # it teaches multiprocessing to send tensors
from lightning.pytorch.plugins.environments import LightningEnvironment

from glassrec.failures import OutOfMemoryError
from glassrec.run import Lock
from glassrec.training.child import ChildFunction
from glassrec.training.job import Job

PATIENCE = 0.5
"""Seconds that the other processes have, after one failed, to fail as well: the first to be seen is
not always the first that failed, as the others lose their connection to it."""


def train_on_devices(work: Callable[[Job], object], job: Job, lock: Lock | None) -> None:
    """Do the work of a job in a process for each device, and wait for all of them.

    `work` is a function of a module. The processes end when this one ends, however it does, and
    until then they hold its `lock`, that of the run directory.

    Raises:
        ValueError: a process was killed.
        Exception: what one of them raised; a RuntimeError with its traceback if it is no
            ValueError, OSError or MemoryError.
    """
    forked = job.settings.strategy == "ddp_fork"
    if forked and torch.cuda.is_initialized():
        raise ValueError("trainer.strategy: ddp_fork cannot use GPUs; take trainer.strategy=auto")
    get_context = multiprocessing.get_context
    context = get_context("fork") if forked else get_context("spawn")
    port = LightningEnvironment().main_port
    before = {*active_children()}
    ranks: list[BaseProcess] = []
    reports: list[Connection] = []
    try:
        with _sigint_blocked():
            for rank in range(job.settings.devices):
                report, sender = context.Pipe(duplex=False)
                process = context.Process(
                    target=ChildFunction(__name__, device_process.__name__),
                    args=(work, job, rank, port, lock, sender),
                    daemon=True,
                )
                process.start()
                sender.close()
                ranks.append(process)
                reports.append(report)
        _wait(ranks, reports)
    finally:
        for child in {*active_children()} - before:
            child.kill()
            child.join()


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Keep SIGINT from processes that are started inside: this one ends them."""
    resource_tracker.ensure_running()  # as it starts with the first process, it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(ranks: Sequence[BaseProcess], reports: Sequence[Connection]) -> None:
    running = {process.sentinel for process in ranks}
    while running:
        ended = {*connection.wait(running)}
        running -= ended
        for process in ranks:  # a sentinel is ready a moment before the exit code is
            if process.sentinel in ended:
                process.join()
        if any(process.exitcode for process in ranks):
            connection.wait(running, PATIENCE)
            raise _failure(ranks, reports)


def _failure(ranks: Sequence[BaseProcess], reports: Sequence[Connection]) -> Exception:
    for rank, process in enumerate(ranks):
        if process.exitcode is not None and process.exitcode < 0:
            name = signal.Signals(-process.exitcode).name
            reason = ", possibly as memory ran out" if process.exitcode == -signal.SIGKILL else ""
            return ValueError(
                f"device process {rank} of {len(ranks)} was killed ({name}){reason}; the same "
                "command goes on after the last complete epoch; lower trainer.batch_size or the "
                "size of the model if it happens again"
            )
    errors = [error for report in reports if (error := _received(report)) is not None]
    errors.sort(key=lambda error: type(error) is RuntimeError)  # of a lost connection, often
    codes = ", ".join(str(process.exitcode) for process in ranks)
    return errors[0] if errors else RuntimeError(f"device processes ended with {codes}")


def _received(report: Connection) -> Exception | None:
    try:
        return report.recv() if report.poll() else None
    except EOFError:
        return None


def device_process(
    work: Callable[[Job], object], job: Job, rank: int, port: int, lock: Lock, report: Connection
) -> None:
    """The life of a device process. It holds the lock by having received it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ |= {
        "LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    try:
        # Tensors arrive in memory that all processes share, and each trains weights of its own.
        work(replace(job, module=deepcopy(job.module)))
    except (ValueError, OSError, MemoryError) as error:
        report.send(_plain(error))
        os._exit(1)
    except BaseException:
        report.send(RuntimeError(f"device process {rank} failed:\n{traceback.format_exc()}"))
        os._exit(1)


def _plain(error: Exception) -> Exception:
    """An exception that another process can read: some of a library's need more than a message."""
    for kind in (BrokenPipeError, OutOfMemoryError, MemoryError, ValueError):
        if isinstance(error, kind):
            return kind(str(error))
    return OSError(str(error))

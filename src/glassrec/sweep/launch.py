"""`glassrec run -m`: every combination of some settings, each in a process of its own.

Hydra's grammar gives the jobs, and an executor runs those that are not complete yet.
"""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path

from glassrec.config.environment import Config
from glassrec.config.errors import ConfigError
from glassrec.sweep.executors import (
    Executor,
    choose_executor,
    parallel_overrides,
    split_overrides,
)
from glassrec.sweep.job_table import lines, summary_lines, watched
from glassrec.sweep.planning import CompletedJobs, SweepRequest, check_jobs, entries, expand
from glassrec.sweep.sweep_job import stoppable
from glassrec.sweep.sweep_record import (
    State,
    SweepJob,
    SweepRecord,
    load_record,
    locked,
    read,
    update,
    write,
)
from glassrec.tracking.tracker import ENCODED


def sweep(
    stage: str, words: Sequence[str], extra: Path | None = None, at_once: int | None = None
) -> int:
    """Run all jobs of a command that are not complete, and report how each ended.

    Returns:
        The exit code: 0, or 130 or 143 where Ctrl-C or SIGTERM ended it.

    Raises:
        ConfigError: a job is wrong, and none was started.
        ValueError: the failures, a line for each job.
    """
    words = [*parallel_overrides(at_once), *words]
    of_jobs, of_executor = split_overrides(words)
    request = SweepRequest(stage, of_jobs, extra)
    executor, directory = choose_executor(of_executor, request.directory, extra)
    jobs, configs = check_jobs(request, expand(request))
    runs = [config["run"]["dir"] for config in configs]
    if directory in runs:
        raise ConfigError(f"hydra.sweep.dir: {directory} is the run.dir of a job; name another")
    with locked(directory):
        planned = entries(request, jobs, runs, directory)
        before = _plan(directory, [*request.command, "-m", *words], planned, configs)
        with stoppable(directory) as stopping, watched(directory, len(jobs)):
            _launch(executor, directory, [j.number for j in planned if j.number not in before])
        shutil.rmtree(directory / ENCODED, ignore_errors=True)
        return _report(directory, before, stopping.code)


def _plan(
    directory: Path, command: Sequence[str], jobs: Sequence[SweepJob], configs: Sequence[Config]
) -> set[int]:
    """Write the record anew, and return the complete jobs; the time that they took stays in it."""
    is_complete, old = CompletedJobs(command[0]), load_record(directory)
    if old and old.objectives:
        raise ConfigError(f"hydra.sweep.dir: {directory} holds a search; name another directory")
    took = {tuple(job.words): job.seconds for job in (old.jobs if old else ())}
    before = set()
    for job, config in zip(jobs, configs, strict=True):
        if is_complete(config):
            before.add(job.number)
            job.state, job.code, job.seconds = "finished", 0, took.get(tuple(job.words))
    write(directory, SweepRecord(["glassrec", *command], str(Path.cwd()), list(jobs)))
    print(f"sweep     {len(jobs)} jobs in {directory}", flush=True)
    if before:
        print(f"sweep     {len(before)} of {len(jobs)} done before", flush=True)
    return before


def _launch(executor: Executor, directory: Path, numbers: Sequence[int]) -> None:
    lost: State = "killed"
    try:
        if numbers:
            executor.launch(directory, numbers)
    except KeyboardInterrupt:  # the second one
        lost = "interrupted"
    except Exception:  # the jobs raise nothing: it is the executor's own
        traceback.print_exc()
    with update(directory) as record:
        for job in record.jobs:
            if job.state == "running":
                job.state, job.problem = lost, "together with the process that watched it"


def _report(directory: Path, before: Collection[int], stopped: int) -> int:
    record = read(directory)
    for line in (*lines(directory, record, record.jobs, before), *summary_lines(directory)):
        print(line, flush=True)
    failed = [job for job in record.jobs if job.state != "finished"]
    if failed and not stopped:
        raise ValueError("\n".join(map(_failure, failed)))
    return stopped


def _failure(job: SweepJob) -> str:
    state = "was not started" if job.state == "waiting" else job.state
    return f"job {job.number} {state}: {job.label}" + (f": {job.problem}" if job.problem else "")

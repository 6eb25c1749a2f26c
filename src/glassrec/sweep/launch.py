"""`glassrec run -m`: every combination of some settings, each in a process of its own.

Hydra's grammar says which jobs there are, and Hydra's launchers decide where they run and how many
at a time: one after the other, several on this machine, on SLURM, on Ray. What they cannot do is
here. A job that crashes takes joblib's whole pool with it; SLURM's and Ray's launchers raise one
failure and tell nothing of the other jobs; Ctrl-C kills at once, and no launcher knows what was
done before. So they are given only what is missing, and what they run is always the same and never
fails (`task.py`): it starts `glassrec` in a fresh process, and writes down how that ended.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Sequence
from pathlib import Path

from glassrec.config.compose import ConfigError
from glassrec.config.environment import Config
from glassrec.sweep.done import Done
from glassrec.sweep.launchers import Launcher, divided
from glassrec.sweep.plan import Asked, check, expand, jobs_of
from glassrec.sweep.record import Job, Record, State, begun, changing, held, read, write
from glassrec.sweep.stopping import stoppable
from glassrec.sweep.table import farewell, lines
from glassrec.sweep.watch import watched


def sweep(stage: str, words: Sequence[str], extra: Path | None = None) -> int:
    """Run all jobs that the words ask for and that are not done, and tell how each ended.

    Returns:
        The exit code: 0, or 130 or 143 where Ctrl-C or SIGTERM ended it.

    Raises:
        ConfigError: a job is wrong, and none was started.
        ValueError: what failed, a line for each job.
    """
    what, where = divided(words)
    asked = Asked(stage, what, extra)
    launcher = Launcher(where, asked.directory, extra)
    jobs = expand(asked)
    configs = check(asked, jobs)
    directory = launcher.directory
    runs = [config["run"]["dir"] for config in configs]
    if directory in runs:
        raise ConfigError(f"hydra.sweep.dir: {directory} is the run.dir of a job; name another")
    with held(directory):
        entries = jobs_of(asked, jobs, runs, directory)
        before = _plan(directory, [*asked.command, "-m", *words], entries, configs)
        with stoppable(directory) as stopping, watched(directory, len(jobs)):
            _launch(launcher, [job.number for job in entries if job.number not in before])
        return _tell(directory, before, stopping.code)


def _plan(
    directory: Path, command: Sequence[str], jobs: Sequence[Job], configs: Sequence[Config]
) -> set[int]:
    """Write the record anew, and say which jobs are done; how long those took stays in it."""
    done, old = Done(command[0]), begun(directory)
    if old and old.objectives:
        raise ConfigError(f"hydra.sweep.dir: {directory} holds a search; name another directory")
    took = {tuple(job.words): job.seconds for job in (old.jobs if old else ())}
    before = set()
    for job, config in zip(jobs, configs, strict=True):
        if done(config):
            before.add(job.number)
            job.state, job.code, job.seconds = "finished", 0, took.get(tuple(job.words))
    write(directory, Record(["glassrec", *command], str(Path.cwd()), list(jobs)))
    print(f"sweep     {len(jobs)} jobs in {directory}", flush=True)
    if before:
        print(f"sweep     {len(before)} of {len(jobs)} done before", flush=True)
    return before


def _launch(launcher: Launcher, numbers: Sequence[int]) -> None:
    """Have the jobs run; whatever happens to the launcher, what is known of them is told."""
    lost: State = "killed"
    try:
        launcher.launch(numbers)
    except KeyboardInterrupt:  # the second one
        lost = "interrupted"
    except Exception:  # the jobs raise nothing: it is the launcher's own
        traceback.print_exc()
    with changing(launcher.directory) as record:
        for job in record.jobs:
            if job.state == "running":
                job.state, job.problem = lost, "together with the process that watched it"


def _tell(directory: Path, before: Collection[int], stopped: int) -> int:
    record = read(directory)
    for line in (*lines(directory, record, record.jobs, before), *farewell(directory)):
        print(line, flush=True)
    failed = [job for job in record.jobs if job.state != "finished"]
    if failed and not stopped:
        raise ValueError("\n".join(map(_failure, failed)))
    return stopped


def _failure(job: Job) -> str:
    how = "was not started" if job.state == "waiting" else job.state
    return f"job {job.number} {how}: {job.label}" + (f": {job.problem}" if job.problem else "")

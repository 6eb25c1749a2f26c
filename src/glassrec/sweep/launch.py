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
from dataclasses import replace
from pathlib import Path
from typing import Any

from glassrec.sweep.done import Done
from glassrec.sweep.launchers import Launcher, divided
from glassrec.sweep.plan import Asked, check, expand, jobs_of
from glassrec.sweep.record import Job, Record, held, read, write
from glassrec.sweep.stopping import stoppable
from glassrec.sweep.watch import watched


def sweep(stage: str, words: Sequence[str], extra: Path | None = None) -> int:
    """Run all jobs that the words ask for and that are not done, and tell how each ended.

    Args:
        stage: the first word of the command.
        words: the others, in Hydra's grammar.
        extra: a folder of the user's own choices.

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
    with held(directory):
        runs = [config["run"]["dir"] for config in configs]
        entries = jobs_of(asked, jobs, runs, directory)
        before = _plan(directory, [*asked.command, "-m", *words], entries, configs)
        with stoppable(directory) as stopping, watched(directory):
            _launch(launcher, [job.number for job in entries if job.number not in before])
        return _tell(directory, before, stopping.code)


def _plan(
    directory: Path, command: Sequence[str], jobs: Sequence[Job], configs: Sequence[dict[str, Any]]
) -> set[int]:
    """Write the record anew, and say which jobs are done; what is known of those stays in it."""
    done = Done(command[0])
    before = {job.number for job, config in zip(jobs, configs, strict=True) if done(config)}
    old = read(directory)
    known = {tuple(job.words): job for job in (old.jobs if old else ())}
    entries = [
        replace(
            job,
            state="finished",
            code=0,
            seconds=known[tuple(job.words)].seconds if tuple(job.words) in known else None,
        )
        if job.number in before
        else job
        for job in jobs
    ]
    write(directory, Record(["glassrec", *command], str(Path.cwd()), entries))
    print(f"sweep     {len(jobs)} jobs in {directory}", flush=True)
    if before:
        print(f"sweep     {len(before)} of {len(jobs)} done before", flush=True)
    return before


def _launch(launcher: Launcher, numbers: Sequence[int]) -> None:
    try:
        launcher.launch(numbers)
    except KeyboardInterrupt:  # the second one; what is known is told all the same
        pass
    except Exception:  # of the launcher: the jobs raise nothing
        traceback.print_exc()


def _tell(directory: Path, before: Collection[int], stopped: int) -> int:
    from glassrec.sweep.table import lines  # PyTorch comes with it

    record = read(directory)
    assert record is not None
    for line in lines(directory, record.jobs, before):
        print(line)
    print(f"results   {directory}")
    print(f"to compare them: glassrec compare {directory}", flush=True)
    failed = [job for job in record.jobs if job.state != "finished"]
    if failed and not stopped:
        raise ValueError(
            "\n".join(f"job {j.number} {j.state}: {j.label}: {j.problem}" for j in failed)
        )
    return stopped

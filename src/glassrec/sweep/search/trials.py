"""A search at work: its trials as jobs, some at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from glassrec.process_exit import STOPPED
from glassrec.sweep import sweep_job
from glassrec.sweep.executors import thread_share
from glassrec.sweep.planning import label as label_of
from glassrec.sweep.search.search_space import values
from glassrec.sweep.search.study import Study, Trial
from glassrec.sweep.search.watcher import TRIAL
from glassrec.sweep.sweep_job import run_job
from glassrec.sweep.sweep_record import SweepJob, read, update

MAX_FIRST_FAILURES = 3
"""So many failed trials before the first good one end a search: the command is wrong."""


@dataclass(frozen=True)
class Trials:
    """The trials of a search.

    Args:
        study: where trials come from; no other process works in its directory.
        stage: of each job, `run` or `train`, with `--config-dir` if need be.
        stops: whether bad trials are stopped early.
        at_once: how many jobs run at the same time.
    """

    study: Study
    stage: Sequence[str]
    stops: bool = False
    at_once: int = 1

    @property
    def directory(self) -> Path:
        """Of the search, with its record."""
        return self.study.directory

    def until(self, total: int) -> None:
        """Run what is missing of `total` trials; one that fails does not stop the others.

        None begins once the file of `sweep.stopping` is there; those that run are waited for.
        """
        trials = self.study.until(total)
        before = {job.number for job in read(self.directory).jobs if job.state == "failed"}
        running: set[Future[SweepJob]] = set()
        with ThreadPoolExecutor(self.at_once) as pool:
            while True:
                while len(running) < self.at_once and not self._is_over(before):
                    if (trial := next(trials, None)) is None:
                        break
                    if self._begin(trial):
                        running.add(pool.submit(self._run, trial.number))
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    self._learn(future.result())

    def _is_over(self, before: Collection[int]) -> bool:
        """Whether the user ends it, or the command is wrong: trials fail, or lack an objective."""
        jobs = read(self.directory).jobs
        failed = [job for job in jobs if job.state == "failed" and job.number not in before]
        hopeless = len(failed) >= MAX_FIRST_FAILURES or any(job.code == 0 for job in failed)
        none_good = all(job.values is None for job in jobs)
        return bool(sweep_job.stop_requested(sweep_job.stop_file(self.directory))) or (
            hopeless and none_good
        )

    def _begin(self, trial: Trial) -> bool:
        """Write a trial down, and whether it is to run: it takes the values of a finished twin."""
        twin = self.study.same_as(trial)
        with update(self.directory) as record:
            job = self._job(trial)
            if twin is not None:
                known = replace(record.jobs[twin - 1], started=None, seconds=None)  # took no time
                job = replace(known, number=trial.number, problem=f"trial {twin} again")
            record.jobs[trial.number - 1 :] = [job, *record.jobs[trial.number :]]
        if job.values is not None:
            self.study.finished(job.number, job.values)
        return twin is None

    def _job(self, trial: Trial) -> SweepJob:
        number, label = trial.number, label_of(trial.point)
        run = str(self.directory / "trials" / str(number)).replace("'", r"\'")
        words = [*self.stage, *self.study.space.words(trial.point), f"run.dir='{run}'"]
        return SweepJob(number, label, words, f"trials/{number}", f"logs/{number}-{label}.log")

    def _run(self, number: int) -> SweepJob:
        environment = thread_share(self.at_once)
        if self.stops:
            environment[TRIAL] = f"{number} {self.study.objectives[0].metric}"
        return run_job(self.directory, number, environment, self._judge)

    def _judge(self, job: SweepJob) -> None:
        """What came of a trial whose process has ended."""
        if self.stops and job.code == STOPPED:
            job.state, job.problem = "stopped", "worse than the median of the trials before"
        elif job.state == "finished":
            assert job.run is not None
            try:
                job.values = values(self.directory / job.run, self.study.objectives, self.stage[0])
            except ValueError as error:
                job.state, job.problem = "failed", str(error)

    def _learn(self, job: SweepJob) -> None:
        """Tell Optuna, after all is written down: a kill between the two runs the trial again."""
        if job.values is not None:
            self.study.finished(job.number, job.values)
        elif job.state == "stopped":
            self.study.stopped(job.number)
        elif job.state == "failed":
            self.study.failed(job.number)

"""A search at work: its trials as jobs, some at a time, and the record of how each one ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep, time

from glassrec.ending import STOPPED
from glassrec.run import at_work
from glassrec.sweep import record, standing, stopping
from glassrec.sweep.job import Outcome, supervise
from glassrec.sweep.objective import Objective, values
from glassrec.sweep.record import Job, Record
from glassrec.sweep.space import Space
from glassrec.sweep.study import Study, Trial
from glassrec.sweep.trial import TRIAL
from glassrec.tracking.naming import LABEL, SWEEP

HOPELESS = 3
"""So many failed trials before the first good one end a search: it is the command that is wrong."""


@dataclass
class Trials:
    """The trials of a search.

    Args:
        directory: an existing folder, in which no other process searches.
        record: of this search; it is changed, and written, as trials begin and end.
        stage: of each job, `run` or `train`, with `--config-dir` if need be.
        space: of its words.
        objectives: one, or two.
        study: where trials come from.
        stops: whether bad trials are stopped early.
        at_once: how many jobs run at the same time.
        supervise: runs a job to its end.
    """

    directory: Path
    record: Record
    stage: Sequence[str]
    space: Space
    objectives: Sequence[Objective]
    study: Study
    stops: bool = False
    at_once: int = 1
    supervise: Callable[..., Outcome] = supervise

    def until(self, total: int, stopped: Callable[[], bool]) -> None:
        """Run what is missing of `total` trials; one that fails does not stop the others.

        Args:
            total: how many there shall be in all.
            stopped: whether no other is to begin. Those that run are told by the file of
                `sweep.stopping`, and are waited for.
        """
        trials = self.study.until(total)
        before = {job.number for job in self.record.jobs if job.state == "failed"}
        running: dict[Future[Outcome], Job] = {}
        with ThreadPoolExecutor(self.at_once) as pool:
            while True:
                while len(running) < self.at_once and not (stopped() or self._hopeless(before)):
                    if (trial := next(trials, None)) is None:
                        break
                    if (job := self._begin(trial)).state == "running":
                        running[pool.submit(self._run, job)] = job
                    else:
                        self._tell(job, total)
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    self._end(job, future.result())
                    self._tell(job, total)

    def _hopeless(self, before: Collection[int]) -> bool:
        """Whether it is the command that is wrong: trials failed, or lacked an objective."""
        if any(job.values is not None for job in self.record.jobs):
            return False
        failed = [j for j in self.record.jobs if j.state == "failed" and j.number not in before]
        return len(failed) >= HOPELESS or any(job.code == 0 for job in failed)

    def _tell(self, job: Job, total: int) -> None:
        print(standing.line(job, self.record, total, self.at_once), flush=True)

    def _begin(self, trial: Trial) -> Job:
        """Write a trial down as running; or as finished if its like is, whose values it takes."""
        number, label = trial.number, standing.label(trial.point)
        words = [*self.stage, *self.space.words(trial.point)]
        jobs = {job.number: job for job in self.record.jobs}
        twin = self.study.same_as(trial)
        if twin is None:
            log = f"logs/{number}-{label}.log"
            job = Job(number, label, words, f"trials/{number}", log, "running", started=time())
        else:
            known = replace(jobs[twin], started=None, seconds=None)  # it took no time
            job = replace(known, number=number, problem=f"trial {twin} again")
        self.record.jobs = [each for _, each in sorted((jobs | {number: job}).items())]
        record.write(self.directory, self.record)
        if job.values is not None:
            self.study.finished(number, job.values)
        return job

    def _run(self, job: Job) -> Outcome:
        assert job.run is not None
        run = self.directory / job.run
        if not self._is_free(run, job.number):
            return Outcome("interrupted", 130, 0.0)
        environment = {SWEEP: str(self.directory), LABEL: job.label}
        if self.stops:
            environment[TRIAL] = f"{job.number} {self.objectives[0].metric}"
        place = "run.dir='" + str(run).replace("'", r"\'") + "'"
        return self.supervise(
            [*job.words, place], self.directory / job.log, environment,
            folder=Path(self.record.folder), stop=stopping.file(self.directory),
        )  # fmt: skip

    def _is_free(self, run: Path, number: int) -> bool:
        """Wait for a job of a killed search, which has gone on; False if the search is to end."""
        stop, told = stopping.file(self.directory), False
        while at_work(run) and not stopping.wanted(stop):
            if not told:
                print(f"trial {number}: its job of before is still at work; waiting", flush=True)
            told = True
            sleep(1)
        return not stopping.wanted(stop)

    def _end(self, job: Job, outcome: Outcome) -> None:
        """Write down how a job ended, and only then tell Optuna: a kill between runs it again."""
        job.state, job.code, job.problem = outcome.state, outcome.code, outcome.problem
        job.seconds = round(outcome.seconds, 1)
        if outcome.code == STOPPED:
            job.state, job.problem = "stopped", "worse than the median of the trials before"
        if job.state == "finished":
            self._measure(job)
        record.write(self.directory, self.record)
        if job.values is not None:
            self.study.finished(job.number, job.values)
        elif job.state == "stopped":
            self.study.stopped(job.number)
        elif job.state == "failed":
            self.study.failed(job.number)

    def _measure(self, job: Job) -> None:
        assert job.run is not None
        try:
            job.values = values(self.directory / job.run, self.objectives, self.stage[0])
        except ValueError as error:
            job.state, job.problem = "failed", str(error)

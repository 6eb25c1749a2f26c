"""A search from its command to its end: checks, trials and the summary."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from glassrec.config import compose
from glassrec.config.errors import ConfigError
from glassrec.process_exit import STOPPED
from glassrec.sweep.executors import thread_share
from glassrec.sweep.job_table import lines, summary_lines, watched
from glassrec.sweep.planning import SweepRequest, sweep_directory
from glassrec.sweep.planning import label as label_of
from glassrec.sweep.search.search_space import SearchObjective, Space, objective, values
from glassrec.sweep.search.study import JOURNAL, Study, Trial
from glassrec.sweep.search.watcher import TRIAL
from glassrec.sweep.sweep_job import run_job, stop_file, stop_requested, stoppable
from glassrec.sweep.sweep_record import (
    FILE,
    SweepJob,
    SweepRecord,
    load_record,
    locked,
    read,
    update,
    write,
)

MAX_FIRST_FAILURES = 3
"""So many failed trials before the first good one end a search: the command is wrong."""

DONE = ("finished", "stopped", "failed")
"""States of trials that the same command does not run again."""

SHOWN = 10
"""Of the best trials, if there is one objective; with two, all of the front."""


def search(options: Namespace) -> int:
    """Search as the options of the command say, or go on; the exit code of the command.

    Raises:
        ConfigError: the overrides are wrong, and nothing was run.
        ValueError: the directory is in use, or no trial succeeded.
    """
    space, objectives = _checked_request(options)
    command = _command(options, objectives)
    place = sweep_directory(["search", *space.dimensions], command)
    directory = (options.dir or place).absolute()
    with locked(directory), stoppable(directory) as stopping:
        jobs = _record(directory, command, objectives).jobs
        study = Study(directory, space, objectives, options.sampler, options.seed)
        trials = Trials(study, _stage(options), options.pruner != "none", options.jobs)
        done, total = sum(job.state in DONE for job in jobs), max(options.trials, len(jobs))
        print(f"search    {done} of {total} trials are done in {directory}", flush=True)
        with watched(directory, total), suppress(KeyboardInterrupt):  # the second Ctrl-C
            trials.until(options.trials)
        return _report(directory, study, stopping.code)


def _checked_request(options: Namespace) -> tuple[Space, Sequence[SearchObjective]]:
    """The space and the objectives, checked as far as possible before anything runs."""
    space = Space.read(options.words, options.config_dir)
    objectives = [objective(text) for text in options.objective]
    _refuse(options, space, objectives)
    space.check(options.stage, options.config_dir)
    objectives = objectives or [_monitored(space, options.config_dir)]
    return _selecting(space, objectives[0]) if options.stage == "train" else space, objectives


def _refuse(options: Namespace, space: Space, objectives: Sequence[SearchObjective]) -> None:
    """ConfigError for options that exclude each other."""
    if len(objectives) > 2 or len(set(objectives)) < len(objectives):
        named = ", ".join(each.metric for each in objectives)
        raise ConfigError(f"--objective: one, or two different ones, not {named}")
    option = "--pruner median" if options.pruner == "median" else "--stage train"
    single = len(objectives) < 2 and all(each.metric.startswith("val/") for each in objectives)
    if not single and (options.pruner == "median" or options.stage == "train"):
        raise ConfigError(
            f"{option}: for one objective of the form val/METRIC, which each epoch reports; Optuna "
            "stops no trial early for two"
        )
    if options.pruner == "median" and any(word.startswith("seeds=") for word in space.fixed):
        raise ConfigError("--pruner median: not with seeds=, as a trial is several trainings then")


def _monitored(space: Space, extra: Path | None) -> SearchObjective:
    """The metric that training monitors, which depends on the data."""
    checked = compose.prepare("train", space.words(space.first), extra)
    parts = compose.build(checked)
    print("loading the data, to see what to make better ...", flush=True)
    dataset = parts["data"].load(checked["seed"])
    return objective(parts["trainer"].monitored_metric(dataset, parts["objective"]))


def _selecting(space: Space, first: SearchObjective) -> Space:
    word = f"trainer.monitor={first.metric}"
    for other in (each for each in space.fixed if each.startswith("trainer.monitor=")):
        if first.metric not in other:
            raise ConfigError(f"{other}: with --stage train, --objective selects; leave it out")
        return space
    return replace(space, fixed=(*space.fixed, word))


def _stage(options: Namespace) -> list[str]:
    return SweepRequest(options.stage, options.words, options.config_dir).command


def _command(options: Namespace, objectives: Sequence[SearchObjective]) -> list[str]:
    """The arguments that identify the search: not the number of trials, nor how they run."""
    return [
        "glassrec", "search", *options.words, *_stage(options)[1:], f"--stage={options.stage}",
        *(f"--objective={each.metric}:{each.direction}" for each in objectives),
        f"--sampler={options.sampler}", f"--seed={options.seed}",
    ]  # fmt: skip


def _record(
    directory: Path, command: list[str], objectives: Sequence[SearchObjective]
) -> SweepRecord:
    found = load_record(directory)
    if found is None:
        if (directory / JOURNAL).is_file():
            raise ValueError(f"{directory} has lost its {FILE}; name another --dir")
        found = SweepRecord(command, str(Path.cwd()), [], [each._asdict() for each in objectives])
        write(directory, found)
    differing = [word for word in command if word not in found.command]
    missing = [word for word in found.command if word not in command]
    if differing or missing:
        raise ConfigError(
            f"--dir: {directory} holds another search: {' '.join(missing) or 'less'} there and "
            f"{' '.join(differing) or 'less'} here; name another"
        )
    return found


def _report(directory: Path, study: Study, stopped: int) -> int:
    record = read(directory)
    for line in (*_summary(directory, record, study), *summary_lines(directory)):
        print(line, flush=True)
    left = [str(job.number) for job in record.jobs if job.state not in DONE]
    if stopped:
        print("stopped; the same command goes on from here", file=sys.stderr)
    elif left:
        raise ValueError(f"trial {', '.join(left)} did not end; the same command runs it again")
    elif all(job.values is None for job in record.jobs):
        raise ValueError("no trial succeeded; see their logs")
    return stopped


def _summary(directory: Path, record: SweepRecord, study: Study) -> Iterator[str]:
    """How many ended how; the best trials, or the whole front of two objectives; what failed."""
    states = sorted(job.state for job in record.jobs)
    yield "trials    " + ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    several = len(study.objectives) > 1
    ranked = [record.jobs[trial.number - 1] for trial in study.best()]
    best = [job for job in ranked if job.run == f"trials/{job.number}"]  # no twins
    shown = best if several else best[:SHOWN]
    metrics = " and ".join(each.metric for each in study.objectives)
    if best:
        yield f"the front of {metrics}:" if several else f"the best by {metrics}:"
    unwell = [job for job in record.jobs if job.state not in ("finished", "stopped")]
    if shown or unwell:
        yield from lines(directory, record, [*shown, *unwell])
    if best:
        yield f"again     {shlex.join(['glassrec', *best[0].words[:-1]])}"  # not its directory


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

    def until(self, total: int) -> None:
        """Run what is missing of `total` trials; one that fails does not stop the others.

        None begins once `stop_file` is there; those that run are waited for.
        """
        trials = self.study.until(total)
        before = {job.number for job in read(self.study.directory).jobs if job.state == "failed"}
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
        jobs = read(self.study.directory).jobs
        failed = [job for job in jobs if job.state == "failed" and job.number not in before]
        hopeless = len(failed) >= MAX_FIRST_FAILURES or any(job.code == 0 for job in failed)
        if hopeless and all(job.values is None for job in jobs):
            return True
        return bool(stop_requested(stop_file(self.study.directory)))

    def _begin(self, trial: Trial) -> bool:
        """Write a trial down, and whether it is to run: it takes the values of a finished twin."""
        twin = self.study.same_as(trial)
        with update(self.study.directory) as record:
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
        run = str(self.study.directory / "trials" / str(number)).replace("'", r"\'")
        words = [*self.stage, *self.study.space.words(trial.point), f"run.dir='{run}'"]
        return SweepJob(number, label, words, f"trials/{number}", f"logs/{number}-{label}.log")

    def _run(self, number: int) -> SweepJob:
        environment = thread_share(self.at_once)
        if self.stops:
            environment[TRIAL] = f"{number} {self.study.objectives[0].metric}"
        return run_job(self.study.directory, number, environment, self._judge)

    def _judge(self, job: SweepJob) -> None:
        """What came of a trial whose process has ended."""
        if self.stops and job.code == STOPPED:
            job.state, job.problem = "stopped", "worse than the median of the trials before"
        elif job.state == "finished":
            assert job.run is not None
            try:
                job.values = values(
                    self.study.directory / job.run, self.study.objectives, self.stage[0]
                )
            except ValueError as error:
                job.state, job.problem = "failed", str(error)

    def _learn(self, job: SweepJob) -> None:
        """Tell Optuna, after all is written down: a kill between the two runs the trial again."""
        if job.values is not None:
            self.study.finished(job.number, job.values)
        elif job.state in ("stopped", "failed"):
            self.study.ended(job.number, stopped=job.state == "stopped")

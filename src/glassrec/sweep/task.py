"""One job of a sweep or a search, whoever runs it, and wherever: nothing is raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import sleep, time

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from glassrec.run import at_work
from glassrec.sweep import stopping
from glassrec.sweep.job import Outcome, supervise
from glassrec.sweep.record import Job, changing
from glassrec.tracking.run_naming import LABEL, SWEEP


def task(_: DictConfig) -> None:
    """Run the job whose number is the name that Hydra's launcher gives to the one at hand."""
    here = HydraConfig.get()
    stopping.deafen()
    run(Path(here.sweep.dir), int(here.job.name))


def run(
    directory: Path,
    number: int,
    environment: Mapping[str, str] | None = None,
    judge: Callable[[Job], None] = lambda _: None,
) -> Job:
    """Run a job of the sweep in `directory`, unless none is to begin, and write down its end.

    It gets the variables of `environment`. `judge` completes its entry before that is written.
    """
    stop = stopping.file(directory)
    with changing(directory) as record:
        job, folder = record.jobs[number - 1], Path(record.folder)
        if stopping.wanted(stop):
            return job
        job.state, job.started = "running", time()
        job.code, job.seconds, job.problem = None, None, ""
    variables = {SWEEP: str(directory), LABEL: job.label, **(environment or {})}
    outcome = Outcome("interrupted", 130, 0.0)  # if the launcher is, by what is no OSError
    try:
        _wait_for(directory / job.run if job.run else None, stop)
        outcome = supervise(job.words, directory / job.log, variables, folder=folder, stop=stop)
    except OSError as error:  # it could not be started
        outcome = Outcome("failed", 1, 0.0, str(error))
    finally:
        job.state, job.code, job.seconds, job.problem = outcome
        judge(job)
        with changing(directory) as record:
            record.jobs[number - 1] = job
    return job


def _wait_for(run: Path | None, stop: Path) -> None:
    """Wait for a job of before, if its sweep was killed and it went on alone."""
    told = False
    while run is not None and at_work(run) and not stopping.wanted(stop):
        if not told:
            print(f"waiting for another process, which works in {run}", flush=True)
        told = True
        sleep(1)

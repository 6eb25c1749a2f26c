"""What a launcher is given to do: one job of a sweep, wherever that is, and nothing is raised."""

from __future__ import annotations

from pathlib import Path
from time import time

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from glassrec.sweep import stopping
from glassrec.sweep.job import Outcome, supervise
from glassrec.sweep.record import Job, changing
from glassrec.tracking.naming import LABEL, SWEEP


def task(_: DictConfig) -> None:
    """Run the job whose number is the name that Hydra gives to the one at hand."""
    here = HydraConfig.get()
    stopping.deafen()
    run(Path(here.sweep.dir), int(here.job.name))


def run(directory: Path, number: int) -> None:
    """Run a job of the sweep in `directory`, and write down how it ended."""
    stop = stopping.file(directory)
    if stopping.wanted(stop):
        return
    with changing(directory) as record:
        job, folder = record.jobs[number - 1], Path(record.folder)
        job.state, job.started = "running", time()
        job.code, job.seconds, job.problem = None, None, ""
    try:
        outcome = supervise(
            job.words,
            directory / job.log,
            {SWEEP: str(directory), LABEL: job.label},
            folder=folder,
            stop=stop,
        )
    except OSError as error:  # it could not be started
        _end(directory, job, Outcome("failed", 1, 0.0, str(error)))
    except BaseException:  # the launcher was interrupted
        _end(directory, job, Outcome("interrupted", 130, time() - (job.started or 0.0)))
        raise
    else:
        _end(directory, job, outcome)


def _end(directory: Path, job: Job, outcome: Outcome) -> None:
    with changing(directory) as record:
        job.state, job.code, job.seconds, job.problem = outcome
        record.jobs[job.number - 1] = job

"""A trial's side of early stopping: what its training tells Optuna, and hears of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from glassrec.ending import StoppedEarly
from glassrec.tracking.run_naming import SWEEP

TRIAL = "GLASSREC_TRIAL"
"""The variable that tells a job which trial of its search it is, and by what metric it may be
stopped: `7 val/auroc`. The search's directory is in `GLASSREC_SWEEP`."""

PATIENT = 5
"""Finished trials that it takes before one can be said to be worse than the median of them."""


def watcher() -> Callable[[Mapping[str, float]], None] | None:
    """Who is to be told of each epoch, if this process is a trial that may be stopped early."""
    if TRIAL not in os.environ:
        return None
    number, metric = os.environ[TRIAL].split(" ", 1)
    return Watcher(Path(os.environ[SWEEP]), int(number), metric)


class Watcher:
    """Tells Optuna of each epoch of a trial, and stops the trial if it is a bad one.

    It is bad if its best epoch is worse than the median, over the finished trials, of theirs up to
    the same epoch. With `trainer.devices` over 1 epochs are told when training is over, so that
    what is spared are the stages after it.

    Args:
        directory: the search's.
        number: the trial.
        metric: of the validation split.
    """

    def __init__(self, directory: Path, number: int, metric: str) -> None:
        import optuna

        from glassrec.sweep.search.study import NAME, as_begun, storage

        study = optuna.load_study(
            study_name=NAME,
            storage=storage(directory),
            sampler=optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=PATIENT),
        )
        self.trial, self.metric = as_begun(study, number), metric
        self.known = max(study.trials[number - 1].intermediate_values, default=-1)

    def __call__(self, row: Mapping[str, float]) -> None:
        """Take in a row of the history.

        Raises:
            StoppedEarly: training is to end here.
            ValueError: the epoch has no such metric.
        """
        if self.metric not in row:
            raise ValueError(f"--objective: training tells of no {self.metric}")
        step = int(row["epoch"]) - 1
        # A resumed run tells of its epochs again, and each was good enough but perhaps the last.
        if step < self.known:
            return
        if step > self.known:
            self.trial.report(row[self.metric], step)
            self.known = step
        if self.trial.should_prune():
            raise StoppedEarly(
                f"stopped after epoch {step + 1}: {self.metric} is worse than the median of the "
                "trials before"
            )

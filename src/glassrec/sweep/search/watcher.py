"""Early stopping of a trial by Optuna, in the process of the trial."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from glassrec.process_exit import StoppedEarly
from glassrec.tracking.tracker import SWEEP

TRIAL = "GLASSREC_TRIAL"
"""The variable with the number of a job's trial and the metric by which it may be stopped:
`7 val/auroc`. The directory of the search is in `GLASSREC_SWEEP`."""

MIN_FINISHED_TRIALS = 5
"""As many trials finish before one is compared with their median."""


def watcher() -> Callable[[Mapping[str, float]], None] | None:
    """The callback for each epoch, if this process is a trial that may be stopped early."""
    if TRIAL not in os.environ:
        return None
    number, metric = os.environ[TRIAL].split(" ", 1)
    return Watcher(Path(os.environ[SWEEP]), int(number), metric)


class Watcher:
    """Reports each epoch of a trial to Optuna, and stops the trial if it is a bad one.

    It is bad if its best epoch is worse than the median, over the finished trials, of theirs up to
    the same epoch. With `trainer.devices` over 1 epochs are reported when training is over.
    """

    def __init__(self, directory: Path, number: int, metric: str) -> None:
        import optuna

        from glassrec.sweep.search.study import NAME, running_trial, storage

        journal = storage(directory)
        sampler = optuna.samplers.RandomSampler()
        pruner = optuna.pruners.MedianPruner(n_startup_trials=MIN_FINISHED_TRIALS)
        study = optuna.load_study(study_name=NAME, storage=journal, sampler=sampler, pruner=pruner)
        self.trial, self.metric = running_trial(study, journal, number), metric
        self.known = max(study.trials[number - 1].intermediate_values, default=-1)

    def __call__(self, row: Mapping[str, float]) -> None:
        """Report a row of the history; StoppedEarly if training is to end here."""
        if self.metric not in row:
            raise ValueError(
                f"--objective: training reports no {self.metric}; it reports {', '.join(row)}"
            )
        step = int(row["epoch"]) - 1
        # A resumed run reports its epochs again, and each was good enough but perhaps the last.
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

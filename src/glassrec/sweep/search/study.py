"""A search as Optuna keeps it: one file that several processes may share, and survives them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from glassrec.sweep.search.search_space import Point, SearchObjective, Space

JOURNAL = "optuna.journal"
"""Optuna's file in the directory of a search. It needs no database, and works on shared disks."""

NAME = "search"
"""Of the only study in that file."""

Sampler = Literal["tpe", "random", "nsgaii"]

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Trial(NamedTuple):
    """One point of the space."""

    number: int
    """from 1; Optuna counts from 0"""
    point: Point


@dataclass(frozen=True)
class Study:
    """Chooses the next point to try, and keeps the result of each.

    The directory exists; all other arguments are the same in each process that works on the search.
    """

    directory: Path
    space: Space
    objectives: Sequence[SearchObjective]
    sampler: Sampler = "tpe"
    seed: int = 0

    @cached_property
    def _storage(self) -> JournalStorage:
        return storage(self.directory)

    @cached_property
    def _study(self) -> optuna.Study:
        directions = [each.direction for each in self.objectives]
        return optuna.create_study(
            storage=self._storage, study_name=NAME, directions=directions, load_if_exists=True
        )

    def until(self, total: int) -> Iterator[Trial]:
        """The trials that are running, then new ones until there are `total`.

        A new one is chosen when it is needed, from the results by then.
        """
        trials = self._study.get_trials()
        for trial in trials:
            if trial.state is TrialState.RUNNING:
                yield self._choose(trial.number + 1)
        for number in range(len(trials) + 1, total + 1):
            yield self._choose(number, new=True)

    def _choose(self, number: int, *, new: bool = False) -> Trial:
        """The point of a trial. Values that it has are kept, if a kill left some or all of them."""
        # Seeded by the trial, so that a resumed search goes on as one that never stopped.
        self._study.sampler = _sampler(self.sampler, self.seed, number)
        trial = self._study.ask() if new else running_trial(self._study, self._storage, number)
        assert trial.number == number - 1
        point = {k: _suggest(trial, k, each) for k, each in self.space.dimensions.items()}
        return Trial(number, point)

    def same_as(self, trial: Trial) -> int | None:
        """The number of a finished trial at the same point, if there is one."""
        ended = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        return next((each.number + 1 for each in ended if each.params == trial.point), None)

    def finished(self, number: int, values: Sequence[float]) -> None:
        """Take in what a trial came to, an objective each."""
        self._study.tell(number - 1, list(values))

    def ended(self, number: int, *, stopped: bool) -> None:
        """Take in that a trial was stopped early, with the value of its last epoch, or failed."""
        self._study.tell(number - 1, state=TrialState.PRUNED if stopped else TrialState.FAIL)

    def best(self) -> list[Trial]:
        """The finished trials, best first; of two objectives, the Pareto front by the first one."""
        several = len(self.objectives) > 1
        found = self._study.best_trials if several else self._study.get_trials(
            states=[TrialState.COMPLETE])  # fmt: skip
        ordered = sorted(found, key=lambda trial: -self.objectives[0].merit(trial.values[0]))
        return [Trial(trial.number + 1, trial.params) for trial in ordered]


def storage(directory: Path) -> JournalStorage:
    """Optuna's file of a search."""
    return JournalStorage(JournalFileBackend(str(directory / JOURNAL)))


def running_trial(study: optuna.Study, storage: JournalStorage, number: int) -> optuna.Trial:
    """A trial that this process, or another one, has begun."""
    study_id = storage.get_study_id_from_name(NAME)
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number - 1)
    return optuna.Trial(study, trial_id)


def _suggest(trial: optuna.Trial, name: str, dimension: BaseDistribution) -> str | int | float:
    """The value of a dimension; one that the trial has already is kept."""
    match dimension:
        case CategoricalDistribution(choices=choices):
            value = trial.suggest_categorical(name, choices)
            assert isinstance(value, str)
            return value
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
    raise TypeError(f"{name}: {dimension} is no dimension of a search")


def _sampler(kind: Sampler, seed: int, number: int) -> optuna.samplers.BaseSampler:
    drawn = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=drawn)
    if kind == "nsgaii":
        return optuna.samplers.NSGAIISampler(seed=drawn)
    return optuna.samplers.TPESampler(seed=drawn)

"""Whether models explain their predictions alike: importance by player, and how far runs agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan

import numpy as np
import pandas as pd

from glassrec.compare.comparison import Task
from glassrec.compare.found import Found

TOP = 5
"""How many players are the most important ones, if there are twice as many or more."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Runs of a task that explain the same players, the best setting first."""

    runs: list[Found]
    setting: list[int]
    """the place of each run's setting in its task"""
    importance: pd.DataFrame
    """a row a player, the most important one first, and a column a run: the mean of |attribution|
    as a share of the run's sum"""

    @property
    def top(self) -> int:
        """How many players `overlap` is about."""
        return max(1, min(TOP, len(self.importance) // 2))

    @property
    def by_setting(self) -> pd.DataFrame:
        """As `importance`, the mean over the runs of each setting; columns are their places."""
        return self.importance.T.groupby(np.array(self.setting)).mean().T

    @cached_property
    def correlation(self) -> np.ndarray:
        """(R, R), Spearman's rank correlation of the importance of any two runs.

        NaN where all players of a run are equally important.
        """
        ranks = self.importance.rank().to_numpy().T
        ranks = ranks - ranks.mean(1, keepdims=True)
        length = np.sqrt((ranks**2).sum(1))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip(ranks @ ranks.T / np.outer(length, length), -1, 1)

    @cached_property
    def overlap(self) -> np.ndarray:
        """(R, R), the share of a run's `top` most important players that are another's, too."""
        order = np.argsort(-self.importance.to_numpy().T, axis=1, kind="stable")
        member = np.zeros(order.shape)
        np.put_along_axis(member, order[:, : self.top], 1, axis=1)
        return member @ member.T / self.top

    @property
    def between_seeds(self) -> float:
        """The mean correlation of two runs of one setting; NaN where there are none."""
        return self._mean(same=True)

    @property
    def between_settings(self) -> float:
        """The mean correlation of two runs of different settings; NaN where there are none."""
        return self._mean(same=False)

    def _mean(self, *, same: bool) -> float:
        place = np.array(self.setting)
        first, second = np.triu_indices(len(place), 1)
        found = self.correlation[first, second][(place[first] == place[second]) == same]
        found = found[~np.isnan(found)]
        return float(found.mean()) if len(found) else nan


def agreements(task: Task) -> list[Agreement]:
    """Those of a task's explained runs, by the players that they share; the most runs first."""
    groups: dict[tuple[str, ...], list[tuple[int, Found]]] = {}
    for place, run in _explained(task):
        assert run.importance is not None, "only runs with it are here"
        groups.setdefault(tuple(sorted(run.importance["player"])), []).append((place, run))
    found = [_agreement(players, runs) for players, runs in groups.items()]
    return sorted(found, key=lambda agreement: -len(agreement.runs))


def _explained(task: Task) -> Iterator[tuple[int, Found]]:
    for place, setting in enumerate(task.settings):
        for run in setting.runs:
            if run.importance is not None and len(run.importance):
                yield place, run


def _agreement(players: Sequence[str], found: Sequence[tuple[int, Found]]) -> Agreement:
    runs = [run for _, run in found]
    tables = [run.importance for run in runs if run.importance is not None]
    order = [np.argsort(table["player"].to_numpy(dtype=str), kind="stable") for table in tables]
    values = [
        table["mean_abs"].to_numpy(dtype=float)[places]
        for table, places in zip(tables, order, strict=True)
    ]
    importance = pd.DataFrame(np.stack(values, 1), index=list(players))
    share = importance / importance.sum()
    share = share.loc[share.mean(axis=1).sort_values(ascending=False, kind="stable").index]
    return Agreement(runs, [place for place, _ in found], share)

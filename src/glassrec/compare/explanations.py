"""Whether models explain their predictions alike: importance by player, and how far runs agree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import nan

import numpy as np
import pandas as pd

from glassrec.compare.comparison import MOST, Task
from glassrec.compare.directory import Found
from glassrec.report.statements import SIGNIFICANCE


@dataclass(frozen=True, eq=False)
class Agreement:
    """Runs of a task that explain the same players, the best setting first."""

    runs: list[Found]
    setting: list[int]
    """the place of each run's setting in its task"""
    importance: pd.DataFrame
    """a row a player, the most important one first, and a column a run: the mean of |attribution|
    as a share of the run's sum"""
    significant: pd.DataFrame
    """the same rows and columns: whether an effect was distinguished from chance"""

    @property
    def by_setting(self) -> pd.DataFrame:
        """As `importance`, the mean over the runs of each setting; columns are their places."""
        return self.importance.T.groupby(np.array(self.setting)).mean().T

    @property
    def moving(self) -> pd.DataFrame:
        """As `by_setting`: whether an effect is significant in every run of the setting."""
        return self.significant.T.groupby(np.array(self.setting)).all().T

    @cached_property
    def correlation(self) -> np.ndarray:
        """(R, R), Spearman's rank correlation of the importance of any two runs.

        NaN where all players of a run are equally important.
        """
        return self.importance.rank().corr().to_numpy()

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
    """The runs of a task's first settings, by the players that they share; most first.

    Runs whose explanation is not trusted, or whose prediction does not move, are left out.
    """
    groups: dict[frozenset[str], list[tuple[int, Found, pd.DataFrame]]] = {}
    for place, setting in enumerate(task.settings[:MOST]):
        for run in setting.runs:
            table = run.importance
            if table is not None and run.trusted and table["mean_abs"].sum() > 0:
                groups.setdefault(frozenset(table["player"]), []).append((place, run, table))
    found = []
    for same in groups.values():
        long = pd.concat([table for _, _, table in same], keys=range(len(same)), names=["run", ""])
        sizes = long.groupby(["player", "run"])["mean_abs"].sum().unstack()
        share = sizes / sizes.sum()
        clear = (long.groupby(["player", "run"])["q_value"].min() < SIGNIFICANCE).unstack()
        order = share.T.mean().sort_values(ascending=False, kind="stable").index
        places = [place for place, _, _ in same]
        runs = [run for _, run, _ in same]
        found.append(Agreement(runs, places, share.loc[order], clear.loc[order]))
    return sorted(found, key=lambda agreement: -len(agreement.runs))

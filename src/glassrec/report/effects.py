"""Which inputs move the prediction: what may be said of a table of importance, and what may not.

An input counts as significant where its q-value (a permutation test of its effect, corrected for
testing many by Benjamini and Hochberg) is below `CHANCE`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from glassrec.report.style import minus
from glassrec.spelling import brief, counted

if TYPE_CHECKING:  # pages of many runs need not wait for PyTorch
    from glassrec.artifacts import Explanation

CHANCE = 0.05
"""The share of false discoveries that is tolerated."""


def ranked(statistics: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of statistics, those of the largest effects first."""
    return statistics.sort_values("mean_abs", ascending=False, kind="stable")


def with_effect(statistics: pd.DataFrame) -> pd.DataFrame:
    """The same, without those that have no effect on any row."""
    return ranked(statistics[statistics["mean_abs"] != 0])


def tested(importance: pd.DataFrame) -> bool:
    """Whether the effects were tested against chance."""
    return "q_value" in importance and not importance["q_value"].isna().all()


def beyond_chance(statistics: pd.DataFrame) -> np.ndarray:
    """(P,) bool: which effects are significant; all where none was tested."""
    if not tested(statistics):
        return np.ones(len(statistics), dtype=bool)
    return (statistics["q_value"] < CHANCE).to_numpy()


def significant(importance: pd.DataFrame) -> pd.DataFrame:
    """The inputs whose effect is significant, the largest first; none where none was tested."""
    if not tested(importance):
        return importance.iloc[:0]
    return with_effect(importance[beyond_chance(importance)])


def no_leader(importance: pd.DataFrame, about: Explanation) -> str:
    """Why no input can be said to move the prediction; empty where some can."""
    if about.constant:
        return constant(about)
    if not len(with_effect(importance)):
        return "none of the explained inputs moves the prediction"
    if not tested(importance) or len(significant(importance)):
        return ""
    return (
        f"none of the {counted(len(importance), 'input')} can be distinguished from chance "
        f"(q ≥ {CHANCE} for each)"
    )


def constant(about: Explanation) -> str:
    """What is said of a model whose prediction does not move."""
    logit = minus(f"{about.mean_logit:z.4g}")
    return (
        f"the model gives the same logit, {logit}, on all {counted(about.rows, 'explained row')} "
        "and at the baseline: no input moves it"
    )


def without_effect(importance: pd.DataFrame, about: Explanation) -> str:
    """Which inputs that the model reads have no effect; empty where all have one."""
    names = importance.loc[importance["mean_abs"] == 0, "player"]
    if about.constant or names.empty:
        return ""
    return f"no effect on any of the {about.rows:,} explained rows: {brief(names)}"

"""The same explanation of two selections of rows: who matters more for one than for the other."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from glassrec.explain.statistics import Spread, interval


def compare_selections(players: Sequence[str], a: Spread, b: Spread) -> pd.DataFrame:
    """Statistics of both selections side by side, the largest difference first.

    Both spreads have the same seed and draws. Where their rows were added under their numbers in
    the split, a row of both selections weighs the same in each draw of both, so that the interval
    is that of the difference also where selections overlap.

    Returns:
        One row a player: player, mean_abs and mean and rank of `a`, the same of `b` with the ending
        `_against`, difference (of mean_abs, a − b), difference_low, difference_high (95 %).
    """
    assert (a.seed, a.draws) == (b.seed, b.draws), "a row weighs the same in both"
    kept = ["mean_abs", "mean", "rank"]
    one, other = a.frame()[kept], b.frame()[kept].add_suffix("_against")
    low, high = interval(a.drawn() - b.drawn())
    frame = pd.concat([pd.Series(list(players), name="player"), one, other], axis=1).assign(
        difference=one["mean_abs"] - other["mean_abs_against"],
        difference_low=low,
        difference_high=high,
    )
    by_size = frame["difference"].abs().sort_values(ascending=False, kind="stable").index
    return frame.loc[by_size].reset_index(drop=True)

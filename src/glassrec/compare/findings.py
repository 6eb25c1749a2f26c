"""What charts and tables of the page show, in sentences that their numbers support."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from glassrec.compare.certified import Certified
from glassrec.compare.shown import PLACES, Curves
from glassrec.metrics import merit, sign
from glassrec.report.page import fixed, percent
from glassrec.report.reading import KEPT
from glassrec.spelling import listed

MANY = 4
"""Names that a sentence can hold."""


def named(names: Iterable[str]) -> str:
    """`a, b and c`, or the first few and how many more."""
    found = list(dict.fromkeys(names))
    more = [f"{len(found) - MANY} more"] if len(found) > MANY else []
    return listed([*found[:MANY], *more])


def of_learning(curves: Curves, metric: str) -> str:
    """Whether longer training might help."""
    still = [
        each.label
        for each, frame in curves
        if _best_place(frame.mean(axis=1), metric) == len(frame) - 1
    ]
    if not still:
        return "All were best before their last epoch."
    return f"Best at the last epoch, so that more might help: {named(still)}."


def _best_place(mean: pd.Series, metric: str) -> int:
    return int(np.argmax([merit(metric, value) for value in mean]))


def of_cutting(curves: Curves, metric: str) -> str:
    """Up to which share every setting keeps its quality."""
    reach: dict[float, list[str]] = {}
    for each, frame in curves:
        mean = frame.mean(axis=1) * sign(metric)
        keeps = (mean.iloc[0] - mean <= KEPT).cumprod().astype(bool)
        reach.setdefault(max(mean.index[keeps], default=0.0), []).append(each.label)
    far = sorted(reach, reverse=True)
    parts = [f"{percent(share, 0)} ({named(reach[share])})" for share in far]
    if len(parts) > MANY:
        parts = [parts[0], "…", parts[-1]]
    return f"Within {KEPT:g} of the uncut model up to {', '.join(parts)}."


def of_carrying(curves: Curves) -> str:
    """How few units carry most."""
    least = {each.label: _reaches(frame.mean(axis=1), 0.9) for each, frame in curves}
    ranked = sorted(least, key=lambda label: least[label])
    few, many = ranked[0], ranked[-1]
    if len(ranked) == 1:
        return f"90 % of the conductance is on {percent(least[few], 0)} of the units."
    return (
        f"90 % of the conductance is on {percent(least[few], 0)} of the units ({few}) to "
        f"{percent(least[many], 0)} ({many})."
    )


def _reaches(mean: pd.Series, share: float) -> float:
    return float(np.interp(share, mean.to_numpy(), PLACES))


def of_importance(shares: pd.DataFrame) -> str:
    """Which feature is first, and for how many."""
    known = shares.dropna(how="all")
    first = known.idxmax(axis=1).value_counts()
    if len(known) == 1:
        return f"{first.index[0]} has the largest share."
    if len(first) == 1:
        return f"{first.index[0]} has the largest share in all {len(known)} settings."
    parts = [f"{name} in {count}" for name, count in first.head(3).items()]
    return f"The largest share has {listed(parts)} of {len(known)} settings."


def of_agreement(within: float, between: float) -> str:
    """Whether seeds agree more than models do."""
    told = []
    if np.isfinite(within):
        told.append(f"two seeds of one setting agree at {fixed(within, 2)}")
    if np.isfinite(between):
        told.append(f"two settings at {fixed(between, 2)}")
    if not told:
        return "There is only one explanation."
    text = ", ".join(told)
    return f"{text[0].upper()}{text[1:]} on average (1: the same order of features)."


def of_silence(frame: pd.DataFrame) -> str:
    """Where units are silent."""
    worst = frame.max().sort_values(ascending=False)
    if not worst.iloc[0]:
        return "Every unit does something on some row."
    return f"Most in {worst.index[0]}: up to {percent(worst.iloc[0])} of its units."


def of_proof(found: Sequence[Certified]) -> str:
    """How many cuts are exact."""
    exact = [each.share for each in found if each.facts["exact"]]
    most = f", and up to {percent(max(exact))} of the units went" if exact else ""
    return f"{len(exact)} of {len(found)} cuts are exact on all rows that were compared{most}."

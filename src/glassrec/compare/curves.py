"""What runs tell as curves: learning, cutting, and how few units carry the prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from glassrec.compare.comparison import Task
from glassrec.compare.directory import Found
from glassrec.compare.shown import Shown
from glassrec.metrics.metadata import best_index, sign
from glassrec.report.formatting import percent
from glassrec.report.statements import MAX_METRIC_DROP, REFERENCE
from glassrec.spelling import listed

PLACES = np.linspace(0, 1, 51)
"""Shares of a layer's units at which curves of neurons are taken."""

MANY = 4
"""Names that a sentence can hold."""

EPOCHS, CARRIED = "epochs of training", "conductance they carry"
"""Names of axes."""

Curves = list[tuple[Shown, pd.DataFrame]]
"""Settings with their curves (places, runs)."""


@dataclass(frozen=True)
class Question:
    """What curves can answer."""

    asked: str
    across: str
    upwards: str
    rests: str
    """what the numbers are"""
    of: Callable[[Found], pd.Series | None]
    """the curve of a run"""
    say: Callable[[Curves], str]
    """the answer"""


def questions(task: Task) -> Sequence[Question]:
    """Those that the curves of a task's runs may answer."""
    quality, metric = task.quality, next(iter(task.shown), "")
    on_validation = metric.replace("test/", "val/", 1)
    return (
        Question(
            "Would longer training help?", EPOCHS, quality,
            "On the validation split, after each epoch.", partial(learned, metric=quality),
            partial(of_learning, metric=quality),
        ),
        Question(
            "How much can be cut before quality falls?",
            "units of each layer that are cut", on_validation,
            "On the validation split; units of least conductance go first, their means folded in.",
            partial(cut, metric=on_validation), partial(of_cutting, metric=on_validation),
        ),
        Question(
            "How few units carry the prediction?", "strongest units of each layer", CARRIED,
            "Units of each layer ranked by mean |conductance|, mean over layers; dashed: 90 %.",
            carried, of_carrying,
        ),
    )  # fmt: skip


def curves(shown: Sequence[Shown], of: Callable[[Found], pd.Series | None]) -> Curves:
    """The settings of which some run has a curve, of two places or more; one would be no line."""
    found = []
    for each in shown:
        ones = [one for run in each.runs if (one := of(run)) is not None and len(one)]
        if ones and len(frame := pd.concat(ones, axis=1).sort_index()) > 1:
            found.append((each, frame))
    return found


def learned(run: Found, metric: str) -> pd.Series | None:
    """A metric by the epoch."""
    frame = run.history
    if frame is None or metric not in frame:
        return None
    return frame.groupby("epoch")[metric].last().dropna()


def cut(run: Found, metric: str) -> pd.Series | None:
    """A metric by the share that is cut of each layer, by conductance."""
    frame = run.pruning_curves(metric) if metric else None
    if frame is None or frame.empty:
        return None
    led = frame["score"] == REFERENCE
    for name in ("folded", "epochs"):  # the first way to cut is what others are held against
        led &= frame[name] == frame[name].iloc[0]
    return frame[led].groupby("share")[metric].mean().dropna()


def carried(run: Found) -> pd.Series | None:
    """The share of conductance by the share of units, from 0 to 1 at `PLACES`; a mean over layers.

    Scores of different layers do not compare, so each layer counts by its shares alone.
    """
    if run.neurons is None:
        return None
    found = []
    for _, size in run.neurons.groupby("layer")["mean_abs"]:
        ranked = np.sort(size.to_numpy(float))[::-1].cumsum()
        if len(ranked) and ranked[-1] > 0:
            shares = np.linspace(0, 1, len(ranked) + 1)
            found.append(np.interp(PLACES, shares, [0, *ranked / ranked[-1]]))
    return pd.Series(np.mean(found, axis=0), index=PLACES) if found else None


def named(names: Iterable[str]) -> str:
    """`a, b and c`, or the first few and how many more."""
    found = list(dict.fromkeys(names))
    more = [f"{len(found) - MANY} more"] if len(found) > MANY else []
    return listed([*found[:MANY], *more])


def of_learning(found: Curves, metric: str) -> str:
    """Whether longer training might help."""
    still = []
    for each, frame in found:
        if best_index(metric, frame.mean(axis=1)) == len(frame) - 1:
            still.append(each.label)
    if not still:
        return "All were best before their last epoch."
    return f"Best at the last epoch, so that more might help: {named(still)}."


def of_cutting(found: Curves, metric: str) -> str:
    """Up to which share every setting keeps its quality."""
    reach: dict[float, list[str]] = {}
    for each, frame in found:
        mean = frame.mean(axis=1) * sign(metric)
        keeps = (mean.iloc[0] - mean <= MAX_METRIC_DROP).cumprod().astype(bool)
        reach.setdefault(max(mean.index[keeps], default=0.0), []).append(each.label)
    far = sorted(reach, reverse=True)
    parts = [f"{percent(share, 0)} ({named(reach[share])})" for share in far]
    if len(parts) > MANY:
        parts = [parts[0], "…", parts[-1]]
    return f"Within {MAX_METRIC_DROP:g} of the uncut model up to {', '.join(parts)}."


def of_carrying(found: Curves) -> str:
    """How few units carry most."""
    least = [(np.interp(0.9, frame.mean(axis=1), PLACES), each.label) for each, frame in found]
    (few, first), (many, last) = min(least), max(least)
    if len(least) == 1:
        return f"90 % of the conductance is on {percent(few, 0)} of the units."
    return (
        f"90 % of the conductance is on {percent(few, 0)} of the units ({first}) to "
        f"{percent(many, 0)} ({last})."
    )

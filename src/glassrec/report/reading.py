"""What pruning curves say, in sentences that the data support, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from glassrec.metrics.metadata import sign
from glassrec.report.style import minus
from glassrec.spelling import listed
from glassrec.student import student

LED, RANDOM = "conductance", "random"
"""The score that is held against the others, and the control that is drawn several times."""

LEAST = 0.001
"""A smaller difference of a metric is a tie, however sure it is."""

KEPT = 0.005
"""What a cut may lose of a metric and still count as keeping it."""

RESULTS = ("wins", "ties", "loses")


class Way(NamedTuple):
    """How a cut is made."""

    folded: bool
    epochs: int

    def __str__(self) -> str:
        place = "means folded" if self.folded else "zeros instead of means"
        return f"{place}, then {_epochs(self.epochs)}" if self.epochs else place


def ways(frame: pd.DataFrame) -> list[Way]:
    """Those of the table, in its order; the first is what the others are held against."""
    pairs = frame[["folded", "epochs"]].drop_duplicates()
    return [Way(bool(folded), int(epochs)) for folded, epochs in pairs.to_numpy()]


def measured(frame: pd.DataFrame) -> str:
    """The first metric of a table of cuts, such as `val/auroc`."""
    return next(name for name in map(str, frame) if "/" in name)


def of_split(metric: str) -> tuple[str, str]:
    """The name of a metric without its split, and that split in words."""
    split, _, name = metric.partition("/")
    return name, {"val": "validation"}.get(split, split)


def reading(frame: pd.DataFrame, metric: str) -> list[str]:
    """The sentences, the most telling first.

    Args:
        frame: rows of `prune.curves.Curves.of`; a column `seed` tells the runs of one setting
            apart. Of a single run nothing is called a win, as it does not know chance.
        metric: a column, such as `val/auroc`.
    """
    found = _Curves(frame, metric)
    if found.frame["value"].isna().all():
        return [f"{found.name} is not defined on these rows, so the curves say nothing"]
    if not found.shares:
        return ["nothing was cut"]
    if found.seeds == 1:
        return [*_of_one_run(found)]
    return [*_of_seeds(found)]


def duels(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Conductance against every other score at each share, paired by seed.

    Random orders are averaged first. Arguments as those of `reading`.

    Returns:
        One row a way, score and share, with the columns of `compared`; empty without conductance,
        another score or a second seed.
    """
    found = _Curves(frame, metric)
    if LED not in found.scores or found.seeds == 1:
        return pd.DataFrame()
    parts = {
        (*way, score): compared(found.of(way, LED), found.of(way, score))
        for way in found.ways
        for score in found.others
    }
    return pd.concat(parts, names=["folded", "epochs", "score"]).reset_index()


def compared(first: pd.DataFrame, then: pd.DataFrame) -> pd.DataFrame:
    """What `first` is better by than `then`, a row a share; both are (shares, seeds).

    Columns: difference, its mean over seeds; low and high, its 95 % interval by Student's t; and
    result. That is wins or loses, and ties where the interval holds 0 or the difference is below
    `LEAST`.
    """
    differences = (first - then).dropna()
    seeds = differences.shape[1]
    mean = differences.mean(axis=1)
    half = student(0.975, seeds - 1) * differences.std(axis=1) / np.sqrt(seeds)
    clear = (mean.abs() > half) & (mean.abs() >= LEAST)
    result = np.select([clear & (mean > 0), clear], ["wins", "loses"], "ties")
    return pd.DataFrame(
        {"difference": mean, "low": mean - half, "high": mean + half, "result": result}
    )


class _Curves:
    """The table, with the metric in a column `value` that is signed so that more is better."""

    def __init__(self, frame: pd.DataFrame, metric: str) -> None:
        seeded = frame if "seed" in frame else frame.assign(seed=0)
        self.name, self.sign = of_split(metric)[0], sign(metric)
        self.frame = seeded.assign(value=self.sign * seeded[metric])
        self.ways, self.scores = ways(frame), [str(score) for score in frame["score"].unique()]
        self.others = [score for score in self.scores if score != LED]
        self.seeds = seeded["seed"].nunique()
        self.shares = sorted({*frame["share"]} - {0})

    def cuts(self, way: Way, score: str) -> pd.DataFrame:
        """The rows of a curve."""
        of = {"folded": way.folded, "epochs": way.epochs, "score": score}
        return self.frame[(self.frame[[*of]] == pd.Series(of)).all(axis=1)]

    def of(self, way: Way, score: str) -> pd.DataFrame:
        """One curve, (shares, seeds); random orders are averaged."""
        cuts = self.cuts(way, score)
        return cuts.pivot_table("value", "share", "seed", dropna=False).loc[self.shares]

    @property
    def uncut(self) -> float:
        """The value of the model as trained, the mean over seeds."""
        return self.frame.loc[
            (self.frame["share"] == 0) & (self.frame["epochs"] == 0), "value"
        ].mean()

    def written(self, value: float) -> str:
        """A value as the metric has it."""
        return minus(f"{self.sign * value:.4f}")

    @property
    def orders(self) -> int:
        """How often a random order was drawn in each run."""
        return self.frame.loc[self.frame["score"] == RANDOM, "draw"].nunique()


def _of_seeds(found: _Curves) -> Iterator[str]:
    """Where conductance wins, ties and loses, and what folding and training on are worth."""
    duel = LED in found.scores and len(found.scores) > 1
    if duel:
        yield _tally(found, found.ways[0])
    yield _keeping(found)
    if duel:
        yield from _each(found, found.ways[0])
        yield from (_tally(found, way) for way in found.ways[1:])
    score = LED if LED in found.scores else found.scores[0]
    for name, first, then in _worth(found.ways):
        results = _results(compared(found.of(first, score), found.of(then, score)), found.shares)
        yield f"{name}, with {score}: {results}"
    yield (
        f"a tie: the means over {found.seeds} seeds differ by less than {LEAST:g}, or the 95 % "
        "interval of the difference (Student's t, paired by seed) holds 0; each share is tested "
        "for itself"
    )


def _tally(found: _Curves, way: Way) -> str:
    """How many comparisons of a way come out how."""
    results = pd.concat(
        [compared(found.of(way, LED), found.of(way, other)) for other in found.others]
    )["result"]
    wins, ties, loses = ((results == word).sum() for word in RESULTS)
    return (
        f"over {found.seeds} seeds {LED} wins {wins}, ties {ties} and loses {loses} of "
        f"{len(results)} comparisons with other scores ({len(found.others)} at "
        f"{len(found.shares)} shares; {way})"
    )


def _each(found: _Curves, way: Way) -> Iterator[str]:
    """How conductance stands against each other score."""
    for other in found.others:
        table = compared(found.of(way, LED), found.of(way, other))
        yield f"{LED} against {other}: {_results(table, found.shares)}"


def _results(table: pd.DataFrame, shares: Sequence[float]) -> str:
    """`wins at 20 to 60 % (by 0.0101 on average), ties at 80 %, loses nowhere`."""
    told = []
    for word in RESULTS:
        part = table[table["result"] == word]
        by = f" (by {part['difference'].abs().mean():.4f} on average)"
        told.append(f"{word} {_at(part.index, shares)}{by if word != 'ties' and len(part) else ''}")
    return ", ".join(told)


def _worth(ways: Sequence[Way]) -> Iterator[tuple[str, Way, Way]]:
    """What two ways differ in, the one with it, and the one without."""
    plain = ways[0]
    for way in ways[1:]:
        if way.epochs:
            yield f"{_epochs(way.epochs)}, against none", way, plain
        else:
            yield "folding means, against zeros in their place", plain, way


def _of_one_run(found: _Curves) -> Iterator[str]:
    """What each score keeps, with no word on what could be chance."""
    way, share = found.ways[0], min(found.shares, key=lambda each: abs(each - 0.5))
    at = {score: found.of(way, score).loc[share].item() for score in found.scores}
    ranked = sorted(at, key=lambda score: -at[score])
    mean = {RANDOM: f", the mean of {found.orders} orders"} if found.orders > 1 else {}
    each = listed(f"{found.written(at[score])} ({score}{mean.get(score, '')})" for score in ranked)
    yield (
        f"with {_percent([share])} of each layer's units cut, {found.name} is {each}; uncut it is "
        f"{found.written(found.uncut)}; one run cannot tell a difference from chance"
    )
    yield _keeping(found)
    if {LED, RANDOM} <= {*found.scores}:
        yield _beyond_random(found, way)
    score = LED if LED in found.scores else found.scores[0]
    for name, first, then in _worth(found.ways):
        gain = (found.of(first, score) - found.of(then, score)) * found.sign
        low, high = (minus(f"{end.item():+.4f}") for end in (gain.min(), gain.max()))
        yield f"{name}, changes {found.name} by {low} to {high} with {score}"


def _beyond_random(found: _Curves, way: Way) -> str:
    """The shares at which no random order is as good as conductance."""
    best, led = (found.cuts(way, each).groupby("share")["value"].max() for each in (RANDOM, LED))
    beyond = led.index[led > best]
    return f"{LED} is better than all {found.orders} random orders {_at(beyond, found.shares)}"


def _keeping(found: _Curves) -> str:
    """Up to which share each score keeps the metric; all smaller shares do so, too."""
    way, reach = found.ways[0], dict[float, list[str]]()
    uncut = found.uncut
    for score in found.scores:
        kept = (uncut - found.of(way, score).mean(axis=1) <= KEPT).cumprod().astype(bool)
        reach.setdefault(max(kept.index[kept], default=0.0), []).append(score)
    far = [f"up to {_percent([share])} by {listed(reach[share])}"
           for share in sorted({*reach} - {0}, reverse=True)]  # fmt: skip
    far += [f"at no share by {listed(reach[0])}"] if 0 in reach else []
    return (
        f"{found.name} stays within {KEPT:g} of the uncut {found.written(uncut)} {', '.join(far)}"
    )


def _at(some: Iterable[float], shares: Sequence[float]) -> str:
    """`at 20 to 60 % and 80 %` of the shares that were tried."""
    chosen = {*some}
    if not chosen:
        return "nowhere"
    if len(chosen) == len(shares) > 1:
        return "at every share"
    runs: list[list[float]] = [[]]
    for share in shares:
        if share in chosen:
            runs[-1].append(share)
        elif runs[-1]:
            runs.append([])
    return f"at {listed(_percent(run) for run in runs if run)}"


def _percent(run: Sequence[float]) -> str:
    """`20 %`, or `20 to 60 %`."""
    ends = dict.fromkeys([run[0], run[-1]])
    return " to ".join(f"{100 * share:g}" for share in ends) + " %"


def _epochs(epochs: int) -> str:
    return f"{epochs} epoch{'s' if epochs > 1 else ''} of training on"

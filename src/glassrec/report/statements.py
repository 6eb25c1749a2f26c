"""Statements that the data support, about importance tables and pruning curves.

An input is significant where its q-value (a permutation test, corrected for multiple testing by
Benjamini and Hochberg) is below `SIGNIFICANCE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import isnan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from glassrec.metrics.metadata import sign
from glassrec.report.formatting import feature_name, minus, percent
from glassrec.spelling import brief, counted, listed

if TYPE_CHECKING:  # pages of many runs need no PyTorch
    from glassrec.artifacts import Explanation

SIGNIFICANCE = 0.05

REFERENCE, RANDOM = "conductance", "random"
"""The score that is compared with each other one, and the control of random orders."""

MAX_METRIC_DROP = 0.005
"""A model within this distance of the unpruned one keeps its quality."""


def ranked(statistics: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of statistics, those of the largest effects first."""
    return statistics.sort_values("mean_abs", ascending=False, kind="stable")


def with_effect(statistics: pd.DataFrame) -> pd.DataFrame:
    """The same, without those that have no effect on any row."""
    return ranked(statistics[statistics["mean_abs"] != 0])


def tested(importance: pd.DataFrame) -> bool:
    """Whether the effects were tested against chance."""
    return "q_value" in importance and not importance["q_value"].isna().all()


def significant_rows(statistics: pd.DataFrame) -> np.ndarray:
    """(P,) bool: which effects are significant; all where none was tested."""
    if not tested(statistics):
        return np.ones(len(statistics), dtype=bool)
    return (statistics["q_value"] < SIGNIFICANCE).to_numpy()


def significant(importance: pd.DataFrame) -> pd.DataFrame:
    """The inputs whose effect is significant, the largest first; none where none was tested."""
    if not tested(importance):
        return importance.iloc[:0]
    return with_effect(importance[significant_rows(importance)])


def no_ranking(importance: pd.DataFrame, about: Explanation) -> str:
    """Why no input can be called the most important; empty where some can."""
    if about.constant:
        logit = minus(f"{about.mean_logit:z.4g}")
        rows = counted(about.rows, "explained row")
        return f"the model gives the same logit, {logit}, on all {rows} and at the baseline"
    if not len(with_effect(importance)):
        return "none of the explained inputs moves the prediction"
    if not tested(importance) or len(significant(importance)):
        return ""
    inputs = counted(len(importance), "input")
    return f"none of the {inputs} has a significant effect (q ≥ {SIGNIFICANCE} for each)"


def without_effect(importance: pd.DataFrame, about: Explanation) -> str:
    """Which inputs that the model reads have no effect; empty where all have one."""
    names = importance.loc[importance["mean_abs"] == 0, "player"].map(feature_name)
    if about.constant or names.empty:
        return ""
    return f"no effect on any of the {about.rows:,} explained rows: {brief(names)}"


def trust(about: Explanation) -> list[str]:
    """The completeness error, and the stability of the ranking."""
    found = ["this method does not claim completeness"]
    if about.complete:
        doubt = "" if about.trusted else ", above explain.tolerance: NOT TRUSTED"
        error = percent(about.relative_delta)
        found = [f"completeness error: {error} of the logit difference{doubt}"]
    if about.agreement is not None:
        found.append(f"rank correlation of two seeds: {minus(f'{about.agreement:.2f}')}")
    return [*found, *stability(about.rank_stability)]


def stability(correlation: float) -> list[str]:
    """How alike subsets of the rows rank; nothing where that is not known."""
    if isnan(correlation):
        return []
    return [f"rank correlation between subsets of the rows: {minus(f'{correlation:.2f}')}"]


def neuron_counts(scores: pd.DataFrame) -> tuple[int, int]:
    """The numbers of neurons with zero attribution on all rows, and of never positive ones."""
    never = (scores["positive_share"] == 0) & (scores["negative_share"] > 0)
    return int((scores["max_abs"] == 0).sum()), int(never.sum())


class PruningVariant(NamedTuple):
    """The treatment of a pruned model: constant folding, and epochs of fine-tuning."""

    folded: bool
    epochs: int

    def __str__(self) -> str:
        constants = "means folded" if self.folded else "zeros instead of means"
        return f"{constants}, then {_epochs(self.epochs)}" if self.epochs else constants


def pruning_variants(frame: pd.DataFrame) -> list[PruningVariant]:
    """Those of the table, in its order; the others are compared with the first."""
    pairs = frame[["folded", "epochs"]].drop_duplicates()
    return [PruningVariant(bool(folded), int(epochs)) for folded, epochs in pairs.to_numpy()]


def curve_metric(frame: pd.DataFrame) -> str:
    """The first metric of a table of pruned models, such as `val/auroc`."""
    return next(name for name in map(str, frame) if "/" in name)


def split_metric(metric: str) -> tuple[str, str]:
    """The name of a metric without its split, and the name of the split."""
    split, _, name = metric.partition("/")
    return name, {"val": "validation"}.get(split, split)


def pruning_statements(frame: pd.DataFrame, metric: str) -> list[str]:
    """Statements about the pruning curves of one run, the most important first.

    `frame` has rows of `PruningCurves.compute`; `metric` is a column, such as `val/auroc`.
    """
    curves = PruningCurveTable(frame, metric)
    return curves.without_statement() or [*_one_run(curves)]


class PruningCurveTable:
    """The table, with the metric in a column `value` that is signed so that higher is better."""

    def __init__(self, frame: pd.DataFrame, metric: str) -> None:
        seeded = frame if "seed" in frame else frame.assign(seed=0)
        self.name, self.sign = split_metric(metric)[0], sign(metric)
        self.frame = seeded.assign(value=self.sign * seeded[metric])
        self.variants = pruning_variants(frame)
        self.scores = [str(score) for score in frame["score"].unique()]
        self.others = [score for score in self.scores if score != REFERENCE]
        self.seeds = seeded["seed"].nunique()
        self.shares = sorted({*frame["share"]} - {0})
        self.orders = frame.loc[frame["score"] == RANDOM, "draw"].nunique()
        unpruned = (frame["share"] == 0) & (frame["epochs"] == 0)
        self.unpruned = self.frame.loc[unpruned, "value"].mean()
        self.main_score = REFERENCE if REFERENCE in self.scores else self.scores[0]

    def rows(self, variant: PruningVariant, score: str) -> pd.DataFrame:
        """The rows of a curve."""
        key = {"folded": variant.folded, "epochs": variant.epochs, "score": score}
        return self.frame[(self.frame[[*key]] == pd.Series(key)).all(axis=1)]

    def curve(self, variant: PruningVariant, score: str) -> pd.DataFrame:
        """One curve, (shares, seeds); random orders are averaged."""
        rows = self.rows(variant, score)
        return rows.pivot_table("value", "share", "seed", dropna=False).loc[self.shares]

    def without_statement(self) -> list[str]:
        """Why there is nothing to state; empty where there is."""
        if self.frame["value"].isna().all():
            return [f"{self.name} is not defined on these rows"]
        return [] if self.shares else ["nothing was pruned"]

    def format(self, value: float) -> str:
        """A value with the sign of the metric."""
        return minus(f"{self.sign * value:.4f}")

    def ablations(self) -> Iterator[tuple[str, PruningVariant, PruningVariant]]:
        """The difference of two variants, the one with it, and the one without."""
        plain = self.variants[0]
        for variant in self.variants[1:]:
            if variant.epochs:
                yield f"{_epochs(variant.epochs)}, against none", variant, plain
            else:
                yield "folding means, against zeros in their place", plain, variant


def _one_run(curves: PruningCurveTable) -> Iterator[str]:
    """The numbers of each score, without a claim beyond this run."""
    variant, share = curves.variants[0], min(curves.shares, key=lambda each: abs(each - 0.5))
    at = {score: curves.curve(variant, score).loc[share].item() for score in curves.scores}
    mean = {RANDOM: f", the mean of {curves.orders} orders"} if curves.orders > 1 else {}
    each = listed(
        f"{curves.format(at[score])} ({score}{mean.get(score, '')})"
        for score in sorted(at, key=lambda score: -at[score])
    )
    yield (
        f"with {_percent([share])} of each layer's neurons pruned, {curves.name} is {each}; "
        f"unpruned it is {curves.format(curves.unpruned)}; a single run cannot be tested for "
        "significance"
    )
    yield within_drop(curves)
    if {REFERENCE, RANDOM} <= {*curves.scores}:
        best, reference = (
            curves.rows(variant, score).groupby("share")["value"].max()
            for score in (RANDOM, REFERENCE)
        )
        shares = at_shares(reference.index[reference > best], curves.shares)
        yield f"{REFERENCE} is better than all {curves.orders} random orders {shares}"
    score = curves.main_score
    for name, one, other in curves.ablations():
        gain = (curves.curve(one, score) - curves.curve(other, score)) * curves.sign
        low, high = (minus(f"{end.item():+.4f}") for end in (gain.min(), gain.max()))
        yield f"{name}, changes {curves.name} by {low} to {high} with {score}"


def within_drop(curves: PruningCurveTable) -> str:
    """Up to which share each score keeps the metric; all smaller shares keep it, too."""
    reach: dict[float, list[str]] = {}
    for score in curves.scores:
        mean = curves.curve(curves.variants[0], score).mean(axis=1)
        reach.setdefault(kept_share(curves.unpruned - mean), []).append(score)
    parts = [
        f"up to {_percent([share])} by {listed(reach[share])}"
        for share in sorted({*reach} - {0}, reverse=True)
    ]
    parts += [f"at no share by {listed(reach[0])}"] if 0 in reach else []
    return (
        f"{curves.name} stays within {MAX_METRIC_DROP:g} of the unpruned "
        f"{curves.format(curves.unpruned)} {', '.join(parts)}"
    )


def kept_share(loss: pd.Series) -> float:
    """The share up to which a loss by share, and by all smaller ones, keeps the quality."""
    kept = (loss <= MAX_METRIC_DROP).cumprod().astype(bool)
    return max(loss.index[kept], default=0.0)


def at_shares(some: Iterable[float], shares: Sequence[float]) -> str:
    """`at 20 to 60 % and 80 %` of the shares that were tried."""
    chosen = {*some}
    if not chosen:
        return "nowhere"
    if len(chosen) == len(shares) > 1:
        return "at every share"
    spans = [[*span] for there, span in groupby(shares, chosen.__contains__) if there]
    return f"at {listed(map(_percent, spans))}"


def _percent(span: Sequence[float]) -> str:
    """`20 %`, or `20 to 60 %`."""
    ends = dict.fromkeys([span[0], span[-1]])
    return " to ".join(f"{100 * share:g}" for share in ends) + " %"


def _epochs(epochs: int) -> str:
    return f"{counted(epochs, 'epoch')} of fine-tuning"

"""Statements that the data support, of importance tables and of pruning curves, and no others.

An input is significant where its q-value (a permutation test of its effect, corrected for multiple
testing by Benjamini and Hochberg) is below `SIGNIFICANCE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from glassrec.metrics.metadata import sign
from glassrec.report.formatting import minus
from glassrec.spelling import brief, counted, listed

if TYPE_CHECKING:  # pages of many runs need no PyTorch
    from glassrec.artifacts import Explanation

SIGNIFICANCE = 0.05
"""The tolerated share of false discoveries."""

REFERENCE, RANDOM = "conductance", "random"
"""The score that is compared with each other one, and the control of random orders."""

NEGLIGIBLE = 0.001
"""A smaller difference of a metric is a tie, however sure it is."""

MAX_METRIC_DROP = 0.005
"""A model within this distance of the unpruned one keeps its quality."""

RESULTS = ("wins", "ties", "loses")


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
    names = importance.loc[importance["mean_abs"] == 0, "player"]
    if about.constant or names.empty:
        return ""
    return f"no effect on any of the {about.rows:,} explained rows: {brief(names)}"


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
    """Statements about pruning curves, the most important first.

    Args:
        frame: rows of `PruningCurves.compute`; a column `seed` separates the runs of one setting.
            A single run has no test against chance, and is called no win.
        metric: a column, such as `val/auroc`.
    """
    curves = _PruningCurves(frame, metric)
    if curves.frame["value"].isna().all():
        return [f"{curves.name} is not defined on these rows"]
    if not curves.shares:
        return ["nothing was pruned"]
    return [*(_one_run(curves) if curves.seeds == 1 else _many_seeds(curves))]


def pairwise_comparisons(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Conductance against every other score at each share, paired by seed.

    Random orders are averaged first. Arguments as those of `pruning_statements`.

    Returns:
        One row per variant, score and share, with the columns of `paired_comparison`; empty without
        conductance, another score or a second seed.
    """
    curves = _PruningCurves(frame, metric)
    if REFERENCE not in curves.scores or curves.seeds == 1:
        return pd.DataFrame()
    parts = {
        (*variant, score): curves.compare(variant, score)
        for variant in curves.variants
        for score in curves.others
    }
    return pd.concat(parts, names=["folded", "epochs", "score"]).reset_index()


def t_quantile(share: float, freedom: int) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit  # a second that `--help` does not wait for

    return float(stdtrit(freedom, share))


def paired_comparison(first: pd.DataFrame, then: pd.DataFrame) -> pd.DataFrame:
    """How much better `first` is than `then`, one row per share; both are (shares, seeds).

    Columns: difference, its mean over seeds; low and high, its 95 % interval by Student's t; and
    result: wins or loses, or ties where the interval holds 0 or the difference is below
    `NEGLIGIBLE`.
    """
    differences = (first - then).dropna()
    seeds = differences.shape[1]
    mean = differences.mean(axis=1)
    half = t_quantile(0.975, seeds - 1) * differences.std(axis=1) / np.sqrt(seeds)
    clear = (mean.abs() > half) & (mean.abs() >= NEGLIGIBLE)
    result = np.select([clear & (mean > 0), clear], ["wins", "loses"], "ties")
    return pd.DataFrame(
        {"difference": mean, "low": mean - half, "high": mean + half, "result": result}
    )


class _PruningCurves:
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

    def compare(self, variant: PruningVariant, score: str) -> pd.DataFrame:
        """Conductance against another score."""
        return paired_comparison(self.curve(variant, REFERENCE), self.curve(variant, score))

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


def _many_seeds(curves: _PruningCurves) -> Iterator[str]:
    """Where conductance wins, ties and loses, and the effects of folding and fine-tuning."""
    compares = REFERENCE in curves.scores and len(curves.scores) > 1
    first, *others = curves.variants
    if compares:
        yield _tally(curves, first)
    yield _within_drop(curves)
    if compares:
        for score in curves.others:
            results = _results(curves.compare(first, score), curves.shares)
            yield f"{REFERENCE} against {score}: {results}"
        yield from (_tally(curves, variant) for variant in others)
    score = curves.main_score
    for name, one, other in curves.ablations():
        compared = paired_comparison(curves.curve(one, score), curves.curve(other, score))
        yield f"{name}, with {score}: {_results(compared, curves.shares)}"
    yield (
        f"a tie: the means over {curves.seeds} seeds differ by less than {NEGLIGIBLE:g}, or the "
        "95 % interval of the difference (Student's t, paired by seed) holds 0; each share is "
        "tested separately"
    )


def _tally(curves: _PruningCurves, variant: PruningVariant) -> str:
    """The numbers of wins, ties and losses of a variant."""
    results = pd.concat([curves.compare(variant, other) for other in curves.others])["result"]
    wins, ties, loses = ((results == word).sum() for word in RESULTS)
    return (
        f"over {curves.seeds} seeds {REFERENCE} wins {wins}, ties {ties} and loses {loses} of "
        f"{len(results)} comparisons with other scores ({len(curves.others)} at "
        f"{len(curves.shares)} shares; {variant})"
    )


def _results(table: pd.DataFrame, shares: Sequence[float]) -> str:
    """`wins at 20 to 60 % (by 0.0101 on average), ties at 80 %, loses nowhere`."""
    texts = []
    for word in RESULTS:
        part = table[table["result"] == word]
        by = f" (by {part['difference'].abs().mean():.4f} on average)"
        more = by if word != "ties" and len(part) else ""
        texts.append(f"{word} {_at(part.index, shares)}{more}")
    return ", ".join(texts)


def _one_run(curves: _PruningCurves) -> Iterator[str]:
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
        f"unpruned it is {curves.format(curves.unpruned)}; one run has no test against chance"
    )
    yield _within_drop(curves)
    if {REFERENCE, RANDOM} <= {*curves.scores}:
        best, reference = (
            curves.rows(variant, score).groupby("share")["value"].max()
            for score in (RANDOM, REFERENCE)
        )
        shares = _at(reference.index[reference > best], curves.shares)
        yield f"{REFERENCE} is better than all {curves.orders} random orders {shares}"
    score = curves.main_score
    for name, one, other in curves.ablations():
        gain = (curves.curve(one, score) - curves.curve(other, score)) * curves.sign
        low, high = (minus(f"{end.item():+.4f}") for end in (gain.min(), gain.max()))
        yield f"{name}, changes {curves.name} by {low} to {high} with {score}"


def _within_drop(curves: _PruningCurves) -> str:
    """Up to which share each score keeps the metric; all smaller shares keep it, too."""
    reach: dict[float, list[str]] = {}
    for score in curves.scores:
        mean = curves.curve(curves.variants[0], score).mean(axis=1)
        kept = (curves.unpruned - mean <= MAX_METRIC_DROP).cumprod().astype(bool)
        reach.setdefault(max(kept.index[kept], default=0.0), []).append(score)
    parts = [
        f"up to {_percent([share])} by {listed(reach[share])}"
        for share in sorted({*reach} - {0}, reverse=True)
    ]
    parts += [f"at no share by {listed(reach[0])}"] if 0 in reach else []
    return (
        f"{curves.name} stays within {MAX_METRIC_DROP:g} of the unpruned "
        f"{curves.format(curves.unpruned)} {', '.join(parts)}"
    )


def _at(some: Iterable[float], shares: Sequence[float]) -> str:
    """`at 20 to 60 % and 80 %` of the shares that were tried."""
    chosen = {*some}
    if not chosen:
        return "nowhere"
    if len(chosen) == len(shares) > 1:
        return "at every share"
    spans: list[list[float]] = [[]]
    for share in shares:
        if share in chosen:
            spans[-1].append(share)
        elif spans[-1]:
            spans.append([])
    return f"at {listed(_percent(span) for span in spans if span)}"


def _percent(span: Sequence[float]) -> str:
    """`20 %`, or `20 to 60 %`."""
    ends = dict.fromkeys([span[0], span[-1]])
    return " to ".join(f"{100 * share:g}" for share in ends) + " %"


def _epochs(epochs: int) -> str:
    return f"{counted(epochs, 'epoch')} of fine-tuning"

"""Pruning curves of several seeds: paired comparisons of scores, and statements about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.stats import t

from glassrec.report.statements import (
    REFERENCE,
    PruningCurveTable,
    PruningVariant,
    at_shares,
    pruning_statements,
    within_drop,
)

NEGLIGIBLE = 0.001
"""A smaller difference of a metric is a tie, however sure it is."""

RESULTS = ("wins", "ties", "loses")


def seed_statements(frame: pd.DataFrame, metric: str) -> list[str]:
    """Statements about pruning curves, the most important first.

    Args:
        frame: rows of `PruningCurves.compute`; a column `seed` separates the runs of one setting.
            A single run has no test against chance, and is called no win.
        metric: a column, such as `val/auroc`.
    """
    curves = PruningCurveTable(frame, metric)
    if curves.seeds == 1:
        return pruning_statements(frame, metric)
    return curves.without_statement() or [*_many_seeds(curves)]


def pairwise_comparisons(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Conductance against every other score at each share, paired by seed.

    Random orders are averaged first. Arguments as those of `seed_statements`.

    Returns:
        One row per variant, score and share, with the columns of `paired_comparison`; empty without
        conductance, another score or a second seed.
    """
    curves = PruningCurveTable(frame, metric)
    if REFERENCE not in curves.scores or curves.seeds == 1:
        return pd.DataFrame()
    parts = {
        (*variant, score): _against(curves, variant, score)
        for variant in curves.variants
        for score in curves.others
    }
    return pd.concat(parts, names=["folded", "epochs", "score"]).reset_index()


def paired_comparison(first: pd.DataFrame, then: pd.DataFrame) -> pd.DataFrame:
    """How much better `first` is than `then`, one row per share; both are (shares, seeds).

    Columns: difference, its mean over seeds; low and high, its 95 % interval by Student's t; and
    result: wins or loses, or ties where the interval holds 0 or the difference is below
    `NEGLIGIBLE`.
    """
    differences = (first - then).dropna()
    seeds = differences.shape[1]
    mean = differences.mean(axis=1)
    half = t.ppf(0.975, seeds - 1) * differences.std(axis=1) / np.sqrt(seeds)
    clear = (mean.abs() > half) & (mean.abs() >= NEGLIGIBLE)
    result = np.select([clear & (mean > 0), clear], ["wins", "loses"], "ties")
    return pd.DataFrame(
        {"difference": mean, "low": mean - half, "high": mean + half, "result": result}
    )


def _against(curves: PruningCurveTable, variant: PruningVariant, score: str) -> pd.DataFrame:
    """Conductance against another score."""
    return paired_comparison(curves.curve(variant, REFERENCE), curves.curve(variant, score))


def _many_seeds(curves: PruningCurveTable) -> Iterator[str]:
    """Where conductance wins, ties and loses, and the effects of folding and fine-tuning."""
    compares = REFERENCE in curves.scores and len(curves.scores) > 1
    first, *others = curves.variants
    if compares:
        yield _tally(curves, first)
    yield within_drop(curves)
    if compares:
        for score in curves.others:
            results = _results(_against(curves, first, score), curves.shares)
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


def _tally(curves: PruningCurveTable, variant: PruningVariant) -> str:
    """The numbers of wins, ties and losses of a variant."""
    results = pd.concat([_against(curves, variant, other) for other in curves.others])["result"]
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
        texts.append(f"{word} {at_shares(part.index, shares)}{more}")
    return ", ".join(texts)

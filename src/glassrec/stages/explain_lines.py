"""An explanation in lines for the terminal; each says no more than was found."""

from __future__ import annotations

from collections.abc import Iterator
from math import nan
from typing import TYPE_CHECKING

from glassrec.report.statements import (
    SIGNIFICANCE,
    neuron_counts,
    no_ranking,
    significant,
    tested,
    with_effect,
    without_effect,
)
from glassrec.spelling import brief

if TYPE_CHECKING:
    from glassrec.stages.explain import Explaining

UNSTABLE = 0.7
"""The rank correlation of two seeds below which a sampled result is said to be unstable."""


def lines(found: Explaining) -> Iterator[str]:
    """All lines, those about the inputs first. Nothing is ranked where the logit is constant."""
    about = found.about
    rows = f"task {about.task}, {about.selection}"
    yield f"{rows}; {about.method}; baseline {about.baseline}"
    yield from _inputs(found)
    if not about.constant:
        at_baseline = f"{about.mean_baseline_logit:z.2f} at the baseline"
        yield f"the mean logit is {about.mean_logit:z.2f}, and {at_baseline}"
        yield from _trust(found)
    yield from _neurons(found)
    yield from _pairs(found)
    yield from _methods(found)
    yield from _truth(found)
    yield from _against(found)


def _inputs(found: Explaining) -> Iterator[str]:
    """Which inputs move the prediction, and which do not."""
    about, importance = found.about, found.importance
    if nothing := no_ranking(importance, about):
        yield nothing
    elif tested(importance):
        names = significant(importance)["player"].head(3)
        yield f"what moves the prediction most: {', '.join(names)} (q < {SIGNIFICANCE})"
    else:
        names = with_effect(importance)["player"].head(3)
        yield f"the largest attributions: {', '.join(names)} (not tested against chance)"
    if idle := without_effect(importance, about):
        yield idle
    if about.unread:
        yield f"{type(found.trained.model).__name__} does not read {brief(about.unread)}"


def _trust(found: Explaining) -> Iterator[str]:
    """How far the parts add up, and whether another seed would rank them alike."""
    about, asked = found.about, found.settings.explain
    if about.complete:
        if about.method != asked.method.name:
            yield (
                f"{asked.method.name}, missed more than explain.tolerance "
                f"({asked.tolerance:.1%}); refined to {about.method}"
            )
        missed = f"the parts miss {about.relative_delta:.2%} of the logit difference"
        yield (
            missed
            if about.trusted
            else (
                f"not trusted: {missed}, more than explain.tolerance ({asked.tolerance:.1%}); take "
                "another method, such as explain/method=shapley_sampling, or raise the tolerance"
            )
        )
    if about.agreement is not None:
        bad = about.agreement < UNSTABLE
        warning = ": unstable; take more samples or another method" if bad else ""
        yield f"two seeds agree at a rank correlation of {about.agreement:.2f}{warning}"


def _neurons(found: Explaining) -> Iterator[str]:
    silent, never = neuron_counts(found.neurons)
    yield f"{silent:,} of {len(found.neurons):,} neurons are silent, {never:,} are never positive"


def _pairs(found: Explaining) -> Iterator[str]:
    """The strongest interaction, where other rows would find the same one."""
    pairs = found.pairs[found.pairs["mean_abs"] != 0]
    if len(pairs):
        strongest = pairs.iloc[0]
        names = f"{strongest['first']} × {strongest['second']}"
        yield (
            f"{names} interact most"
            if strongest["rank_high"] == 1
            else f"no pair of inputs can be said to interact most; {names} have the largest mean"
        )


def _methods(found: Explaining) -> Iterator[str]:
    judged, most = found.methods, found.settings.explain.tolerance
    for row in judged[judged["problem"] != ""].itertuples():
        yield f"{row.method} is left out: {row.problem}"
    judged = judged[judged["name"] != found.about.method]  # that one has been reported
    for row in judged[judged["complete"] & (judged["delta"] > most)].itertuples():
        yield f"{row.method}: the parts miss {row.delta:.1%} of the logit difference"
    for row in judged[judged["agreement"] < UNSTABLE].itertuples():
        yield f"{row.method}: two seeds agree at only {row.agreement:.2f}: unstable"


def _truth(found: Explaining) -> Iterator[str]:
    kinds = {"players": "inputs", "main": "main effects", "pairs": "pairs"}
    marks = {
        words: found.marks.get(f"truth/{kind}_precision", nan) for kind, words in kinds.items()
    }
    # Not a number: there is none of the kind.
    shares = [f"{share:.0%} of {words}" for words, share in marks.items() if share == share]
    if shares:
        yield f"of what is known to act, these rank on top: {', '.join(shares)}"


def _against(found: Explaining) -> Iterator[str]:
    """Which input differs most between two selections, where one does beyond its interval."""
    if found.against is None:
        return
    compared, about = found.against
    if found.about.constant and about.constant:
        return
    clear = compared[(compared["difference_low"] > 0) | (compared["difference_high"] < 0)]
    if clear.empty:
        yield f"against {about.selection}: no input differs beyond its 95 % interval"
        return
    first = clear.iloc[0]
    sizes = f"{first['mean_abs']:.3g} here and {first['mean_abs_against']:.3g} there"
    yield f"against {about.selection}: {first['player']} differs most, {sizes}"

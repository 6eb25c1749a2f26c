"""What moves the predictions, through which neurons, and how far that can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from math import floor, isnan, log10

import pandas as pd

from glassrec.artifacts import Explanation
from glassrec.report.formatting import fixed, format_value, percent, whole
from glassrec.report.statements import (
    SIGNIFICANCE,
    neuron_counts,
    no_ranking,
    ranked,
    significant,
    significant_rows,
    tested,
    with_effect,
    without_effect,
)
from glassrec.report.story.found import Found
from glassrec.report.story.parts import Bar, Bars, Listing, More, Part, Section, Sentences, Shown
from glassrec.spelling import brief, listed

MOST = 15
"""Inputs that have a bar; all are in the table."""

PICTURES = {
    "feature_pairs": (
        "a triangle of cells, one for every two features, darker where they act together",
        "Dark cells: two features that together do what neither does alone.",
    ),
    "time_steps": (
        "the importance of each place in the history",
        "How much each earlier item of the user moves the prediction, by its place.",
    ),
    "selections": (
        "the importance of each input on two selections of rows, side by side",
        "The same inputs on two selections of rows: where the bars part, the model decides in "
        "another way.",
    ),
    "single_rows": (
        "for eight rows, coloured bars of what each input adds to the prediction or takes away",
        "Eight rows of the data, from a high prediction to a low one. The lower bar starts where "
        "the upper one has taken the prediction, and ends at what the model said.",
    ),
    "spread": (
        "a line of dots for each input, one dot a row, placed by what the input did there",
        "Each dot is a row. An input with dots on both sides raises some predictions and lowers "
        "others.",
    ),
    "removals": (
        "bars of the share of rows predicted positive, with all inputs and without each kind",
        "What is left of the predictions if a whole kind of inputs is replaced.",
    ),
    "methods": (
        "a table of methods by measures; darker cells are better",
        "The method of this report beside others, on the same rows.",
    ),
    "agreement": (
        "a square of cells, one for every two methods, by how alike they rank the inputs",
        "1: two methods rank the inputs of a row alike; 0: they have nothing in common.",
    ),
    "faithfulness": (
        "two panels of lines: the mean logit as inputs are replaced, and as they are put back",
        "If a method is right, the prediction moves fast when its most important inputs go "
        "(left) or come (right). Grey: a random order.",
    ),
    "neuron_importance": (
        "a panel for each layer: the importance of its neurons, ranked, silent ones in red",
        "A panel a layer; its neurons stand from the most important to the silent ones, in red.",
    ),
}
"""Words for who does not see a picture, and what who does is to see."""


def shown(found: Found, *names: str) -> Iterator[Shown]:
    """Those of the pictures that the run has."""
    return (Shown(found.pictures[n], *PICTURES[n]) for n in names if n in found.pictures)


def importance(found: Found) -> Section | None:
    """Which inputs move the predictions."""
    about, frame = found.about, found.table("importance")
    if about is None or not len(frame):
        return None
    if about.constant:
        parts: list[Part] = [Sentences([*_idle(found, about)])]
        return Section("explanation", "What moves the predictions", leading(found), parts)
    others = [*shown(found, "methods", "faithfulness", "agreement")]
    parts = [
        *([_bars(with_effect(frame), about)] if frame["mean_abs"].any() else []),
        *([Sentences(idle)] if (idle := [*_idle(found, about)]) else []),
        Sentences([*_trust(found, about), *_truth(found)], "How far can this be trusted?"),
        *shown(found, "feature_pairs", "time_steps", "selections", "single_rows", "spread"),
        More("All inputs", [_table(ranked(frame))]),
        *([More("Would another method say the same?", others)] if others else []),
        *([More("Without a whole kind of inputs", removed)]
          if (removed := [*shown(found, "removals")]) else []),
    ]  # fmt: skip
    return Section("explanation", "What moves the predictions", leading(found), parts)


def leading(found: Found) -> str:
    """The inputs that move the predictions most, as far as that is known."""
    frame, about = found.table("importance"), found.about
    assert about is not None, "there is an explanation"
    doubt = "" if about.trusted else f" This is not to be trusted: {_missed(about)}."
    if nothing := no_ranking(frame, about):
        return f"{nothing[0].upper()}{nothing[1:]}.{doubt}"
    return f"{_largest(found)}{doubt}"


def _largest(found: Found) -> str:
    """The largest effects that are significant, or just the largest where none was tested."""
    frame = found.table("importance")
    first = (significant(frame) if tested(frame) else with_effect(frame)).head(3)
    most, *others = (
        f"{name}, by {format_value(size)} on average"
        if not place
        else f"{name} ({format_value(size)})"
        for place, (name, size) in enumerate(zip(first["player"], first["mean_abs"], strict=True))
    )
    then = f"; then come{'s' * (len(others) == 1)} {listed(others)}" if others else ""
    several = found.data is not None and len(found.data["tasks"]) > 1
    of = f" of {found.about.task}" if several and found.about is not None else ""
    if tested(frame):
        return f"What moves the logit{of} most is {most}{then}."
    return (
        f"The largest mean attribution to the logit{of} is that of {most}{then}; none was tested."
    )


def _missed(about: Explanation) -> str:
    return (
        f"the parts of {about.method} miss {percent(about.relative_delta)} of the logit difference"
    )


def _idle(found: Found, about: Explanation) -> Iterator[str]:
    """What does not move the predictions."""
    if idle := without_effect(found.table("importance"), about):
        yield f"{idle[0].upper()}{idle[1:]}."
    if about.unread:
        yield f"{found.model} does not read {brief(about.unread)}."


def _bars(frame: pd.DataFrame, about: Explanation) -> Bars:
    top = frame.head(MOST)
    sizes = top[["mean_abs", "mean_abs_low", "mean_abs_high"]].to_numpy(float)
    certain, widest = significant_rows(top), sizes.max() or 1.0
    places = max(0, 2 - floor(log10(widest)))
    bars = [
        Bar(str(name), size / widest, fixed(size, places), low / widest, high / widest, not sure)
        for name, (size, low, high), sure in zip(top["player"], sizes, certain, strict=True)
    ]
    caption = (
        f"By how much each input moves the logit on average, up or down, away from the baseline "
        f"({about.baseline}); lines: 95 % interval. Found by {about.method}, on {about.selection}, "
        f"for the task {about.task}."
    )
    if not certain.all():
        caption += f" Pale: what could be chance (q ≥ {SIGNIFICANCE})."
    if len(frame) > MOST:
        caption += f" {len(frame) - MOST} more in the table of all inputs."
    return Bars("Which inputs move the predictions?", bars, caption)


def _trust(found: Found, about: Explanation) -> Iterator[str]:
    """How far the numbers can be trusted."""
    if not about.trusted:
        yield f"Not to be trusted: {_missed(about)}, more than explain.tolerance allows."
    elif about.complete:
        yield (
            "The parts add up: together they miss "
            f"{percent(about.relative_delta)} of how far the logit is from the baseline's."
        )
    else:
        yield "The parts of this method need not add up to the prediction."
    if about.agreement is not None:
        yield (
            "The method draws at random; with another seed the inputs of a row are ranked with a "
            f"correlation of {fixed(about.agreement, 2)} (1 is alike)."
        )
    if not isnan(about.rank_stability):
        yield (
            "Other rows would tell the same: rankings on separate parts of the rows correlate by "
            f"{fixed(about.rank_stability, 2)} (1 is alike)."
            if about.rank_stability > 0.9
            else "Other rows may rank the inputs otherwise: rankings on separate parts of the rows "
            f"correlate by only {fixed(about.rank_stability, 2)} (1 is alike)."
        )
    judged = found.table("methods")
    for row in judged[judged["problem"] != ""].itertuples() if len(judged) else ():
        yield f"{row.method} could not explain this model: {row.problem}."


def _truth(found: Found) -> Iterator[str]:
    """How well effects that are known were found."""
    kinds = {"players": "inputs", "main": "main effects", "pairs": "pairs"}
    marks = {words: found.numbers.get(f"truth/{kind}_precision") for kind, words in kinds.items()}
    shares = [
        f"{percent(mark, 0)} of the {words}"
        for words, mark in marks.items()
        if mark is not None and not isnan(mark)
    ]
    if shares:
        yield (
            "What acts in these data is known, as they are generated. Of what really acts, the "
            f"explanation ranks on top {listed(shares)}."
        )


def _table(frame: pd.DataFrame) -> Listing:
    rows = [
        [row["player"], format_value(row["mean_abs"]),
         f"{format_value(row['mean_abs_low'])} to {format_value(row['mean_abs_high'])}",
         format_value(row["mean"]),
         percent(row["positive_share"]), format_value(row.get("q_value", float("nan")))]
        for _, row in frame.iterrows()
    ]  # fmt: skip
    heads = ["input", "mean size", "95 % interval", "mean", "rows it raises", "q-value"]
    return Listing("What each input did to the logit", heads, rows)


def neurons(found: Found) -> Section | None:
    """Which neurons carry the predictions."""
    scores, about = found.table("neurons"), found.about
    if about is None or not len(scores):
        return None
    silent, never = neuron_counts(scores)
    some = f"{whole(silent)} of {whole(len(scores))} neurons are" if silent else "No neuron is"
    they = "they had no" if silent else "each had an"
    said = (
        f"{some} silent: {they} effect on {'any' if silent else 'some'} of the "
        f"{whole(about.rows)} explained rows. {whole(never)} only ever lowered a prediction."
    )
    rows = []
    for layer, own in scores.groupby("layer", sort=False):
        quiet, lowering = neuron_counts(own)
        strongest = ranked(own)["name"].iloc[0] if own["max_abs"].any() else ""
        rows.append([str(layer), strongest, whole(len(own)), whole(quiet), whole(lowering)])
    heads = ["layer", "strongest", "neurons", "silent", "never positive"]
    table = Listing(f"By {about.neurons}", heads, rows, texts=2)
    single = [n for n in found.pictures if n.startswith("neurons_")]
    details = [Shown(found.pictures[n], *_of_layer(n)) for n in sorted(single)]
    more = [More("The neurons of two layers, one by one", details)] if details else []
    parts: list[Part] = [table, *shown(found, "neuron_importance"), *more]
    return Section("neurons", "The neurons that carry them", said, parts)


def _of_layer(name: str) -> tuple[str, str]:
    layer = name.removeprefix("neurons_").removesuffix("_over_rows")
    if name.endswith("_over_rows"):
        return (
            f"the parts of the strongest neurons of {layer}, stacked in each of many rows",
            f"{layer}: what its strongest neurons did, row by row, from the lowest prediction to "
            "the highest.",
        )
    return (
        f"the importance of every neuron of {layer}, and bars of the strongest",
        f"{layer}: every neuron, and the strongest by name.",
    )

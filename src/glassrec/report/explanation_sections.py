"""Sections of a report about the explanation: inputs, neurons, and how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator
from math import floor, isnan, log10, nan

import pandas as pd

from glassrec.artifacts import Explanation
from glassrec.artifacts.file_list import IMPORTANCE, METHODS, NEURONS
from glassrec.report.blocks import (
    Bar,
    Bars,
    Block,
    Details,
    FigurePart,
    Section,
    Sentences,
    TableBlock,
)
from glassrec.report.formatting import fixed, format_value, percent, sentence, whole
from glassrec.report.html import texts
from glassrec.report.run_record import RunRecord
from glassrec.report.statements import (
    SIGNIFICANCE,
    neuron_counts,
    no_ranking,
    ranked,
    significant,
    significant_rows,
    tested,
    trust,
    with_effect,
    without_effect,
)
from glassrec.report.training_sections import class_name
from glassrec.spelling import brief, listed

MAX_BARS = 15
"""Inputs that have a bar; all are in the table."""

FIGURES: dict[str, dict[str, str]] = texts("figures")
"""Alternative text and caption of each figure."""


def figure_parts(run: RunRecord, *names: str) -> list[Block]:
    """Those of the figures that the run has."""
    return [FigurePart(run.figures[n], **FIGURES[n]) for n in names if n in run.figures]


def importance_section(run: RunRecord) -> Section | None:
    """The inputs with the largest effects."""
    about, frame = run.explanation, run.rows(IMPORTANCE)
    if about is None or not len(frame):
        return None
    title = "What moves the predictions"
    unused = [*_without_effect(run, about)]
    if about.constant:
        return Section("explanation", title, largest_effects(run), [Sentences(unused)])
    blocks: list[Block] = []
    if frame["mean_abs"].any():
        blocks.append(_bars(with_effect(frame), about))
    if unused:
        blocks.append(Sentences(unused))
    reliability = [*_trust(run, about), *_truth(run)]
    blocks.append(Sentences(reliability, "How far can this be trusted?"))
    blocks += figure_parts(
        run, "feature_pairs", "time_steps", "selections", "single_rows", "spread"
    )
    blocks.append(Details("All inputs", [_table(ranked(frame))]))
    for summary, names in {
        "Do other methods agree?": ("methods", "faithfulness", "agreement"),
        "Without a whole kind of inputs": ("removals",),
    }.items():
        if figures := figure_parts(run, *names):
            blocks.append(Details(summary, figures))
    return Section("explanation", title, largest_effects(run), blocks)


def largest_effects(run: RunRecord) -> str:
    """The inputs with the largest effects, as far as they are known."""
    frame, about = run.rows(IMPORTANCE), run.explanation
    assert about is not None, "there is an explanation"
    doubt = "" if about.trusted else f" This is not to be trusted: {_error(about)}."
    if reason := no_ranking(frame, about):
        return f"{sentence(reason)}{doubt}"
    first = (significant(frame) if tested(frame) else with_effect(frame)).head(3)
    sizes = zip(first["player"], map(format_value, first["mean_abs"]), strict=True)
    name, size = next(sizes)
    others = [f"{other} ({value})" for other, value in sizes]
    then = f", followed by {listed(others)}" if others else ""
    several = run.data is not None and len(run.data["tasks"]) > 1
    of = f" of {about.task}" if several else ""
    if tested(frame):
        first_effect = f"is that of {name} ({size} on average)"
        return f"The largest effect on the logit{of} {first_effect}{then}.{doubt}"
    return (
        f"The largest mean attribution to the logit{of} is that of {name} ({size}){then}; none was "
        f"tested for significance.{doubt}"
    )


def _error(about: Explanation) -> str:
    return (
        f"the completeness error of {about.method} is {percent(about.relative_delta)} of the logit "
        "difference"
    )


def _without_effect(run: RunRecord, about: Explanation) -> Iterator[str]:
    if text := without_effect(run.rows(IMPORTANCE), about):
        yield sentence(text)
    if about.unread:
        yield f"{class_name(run.config['model'])} does not read {brief(about.unread)}."


def _bars(frame: pd.DataFrame, about: Explanation) -> Bars:
    top = frame.head(MAX_BARS)
    sizes = top[["mean_abs", "mean_abs_low", "mean_abs_high"]].to_numpy(float)
    clear, widest = significant_rows(top), sizes.max() or 1.0
    places = max(0, 2 - floor(log10(widest)))
    bars = [
        Bar(str(name), size / widest, fixed(size, places), low / widest, high / widest, not sure)
        for name, (size, low, high), sure in zip(top["player"], sizes, clear, strict=True)
    ]
    caption = (
        f"The mean size of the effect on the logit, up or down, relative to the baseline "
        f"({about.baseline}); lines: 95 % interval. By {about.method}, on {about.selection}, for "
        f"the task {about.task}."
    )
    if not clear.all():
        caption += f" Pale: not significant (q ≥ {SIGNIFICANCE})."
    if len(frame) > MAX_BARS:
        caption += f" {len(frame) - MAX_BARS} more in the table of all inputs."
    return Bars("Which inputs move the predictions?", bars, caption)


def _trust(run: RunRecord, about: Explanation) -> Iterator[str]:
    """Completeness, and stability over seeds, rows and methods."""
    yield from map(sentence, trust(about))
    methods = run.rows(METHODS)
    for row in methods[methods["problem"] != ""].itertuples() if len(methods) else ():
        yield f"{row.method} could not explain this model: {row.problem}."


def _truth(run: RunRecord) -> Iterator[str]:
    kinds = {"players": "inputs", "main": "main effects", "pairs": "pairs"}
    scores = {name: run.truth.get(f"truth/{kind}_precision", nan) for kind, name in kinds.items()}
    shares = [f"{percent(s, 0)} of the {name}" for name, s in scores.items() if not isnan(s)]
    if shares:
        yield (
            "The true effects are known, as the data are synthetic. Of them the explanation ranks "
            f"on top {listed(shares)}."
        )


def _table(frame: pd.DataFrame) -> TableBlock:
    rows = [
        [row["player"], format_value(row["mean_abs"]),
         f"{format_value(row['mean_abs_low'])} to {format_value(row['mean_abs_high'])}",
         format_value(row["mean"]), percent(row["positive_share"]),
         format_value(row.get("q_value", nan))]
        for _, row in frame.iterrows()
    ]  # fmt: skip
    heads = ["input", "mean size", "95 % interval", "mean", "rows it raises", "q-value"]
    return TableBlock("The attributions of each input to the logit", heads, rows)


def neurons_section(run: RunRecord) -> Section | None:
    """The importance of the neurons, by layer."""
    scores, about = run.rows(NEURONS), run.explanation
    if about is None or not len(scores):
        return None
    zero, never = neuron_counts(scores)
    finding = (
        f"{whole(zero)} of {whole(len(scores))} neurons have zero attribution on all of the "
        f"{whole(about.rows)} explained rows; {whole(never)} only lowered predictions."
    )
    rows = []
    for layer, own in scores.groupby("layer", sort=False):
        counts = map(whole, (len(own), *neuron_counts(own)))
        strongest = ranked(own)["name"].iloc[0] if own["max_abs"].any() else ""
        rows.append([str(layer), strongest, *counts])
    heads = ["layer", "strongest", "neurons", "zero attribution", "never positive"]
    blocks: list[Block] = [TableBlock(f"By {about.neurons}", heads, rows, texts=2)]
    blocks += figure_parts(run, "neuron_importance")
    single = sorted(name for name in run.figures if name.startswith("neurons_"))
    if single:
        figures = [FigurePart(run.figures[name], *_layer_texts(name)) for name in single]
        blocks.append(Details("The neurons of two layers, one by one", figures))
    return Section("neurons", "The neurons behind the predictions", finding, blocks)


def _layer_texts(name: str) -> tuple[str, str]:
    layer = name.removeprefix("neurons_").removesuffix("_over_rows")
    if name.endswith("_over_rows"):
        return (
            f"the conductance of the strongest neurons of {layer}, stacked in each of many rows",
            f"{layer}: its strongest neurons, row by row, from the lowest prediction to the "
            "highest.",
        )
    return (
        f"the importance of every neuron of {layer}, and bars of the strongest",
        f"{layer}: every neuron, and the strongest by name.",
    )

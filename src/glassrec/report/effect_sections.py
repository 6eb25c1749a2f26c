"""Sections of a report about the effects of inputs and neurons, and about pruning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import floor, isnan, log10, nan
from typing import Any

import pandas as pd

from glassrec.artifacts import Explanation, PrunePlan
from glassrec.artifacts.file_list import IMPORTANCE, METHODS, NEURONS, PRUNING_CURVES, SEGMENTS
from glassrec.metrics.cost import ratio_lines
from glassrec.metrics.metadata import IN_UNIT, format_metric, primary_metrics
from glassrec.prune.certificate_text import of_all_pairs, proven, text
from glassrec.report.blocks import (
    Bar,
    Bars,
    Block,
    Code,
    Details,
    FigurePart,
    Section,
    Sentences,
    TableBlock,
)
from glassrec.report.formatting import (
    COSTS,
    feature_name,
    fixed,
    format_value,
    metric_name,
    metric_text,
    minus,
    percent,
    relative_change,
    sentence,
    whole,
)
from glassrec.report.html import texts
from glassrec.report.run_record import RunRecord
from glassrec.report.statements import (
    SIGNIFICANCE,
    curve_metric,
    neuron_counts,
    no_ranking,
    pruning_statements,
    ranked,
    significant,
    significant_rows,
    split_metric,
    tested,
    trust,
    with_effect,
    without_effect,
)
from glassrec.report.training_sections import FIGURES, class_name, figure_parts
from glassrec.spelling import brief, listed

MAX_BARS = 15
"""Inputs that have a bar; all are in the table."""

GUARANTEES: dict[str, str] = texts("guarantees")


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
    blocks.append(Sentences([*_reliability(run, about)], "How far can this be trusted?"))
    blocks += figure_parts(
        run, "beeswarm", "numeric_effects", "category_effects", "time_steps", "waterfalls",
        "feature_pairs", "selections",
    )  # fmt: skip
    blocks.append(Details("All inputs", [_inputs_table(ranked(frame))]))
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
    doubt = "" if about.trusted else (
        f" This is not to be trusted: the completeness error of {about.method} is "
        f"{percent(about.relative_delta)} of the logit difference."
    )  # fmt: skip
    if reason := no_ranking(frame, about):
        return f"{sentence(reason)}{doubt}"
    first = (significant(frame) if tested(frame) else with_effect(frame)).head(3)
    sizes = zip(
        first["player"].map(feature_name), map(format_value, first["mean_abs"]), strict=True
    )
    name, size = next(sizes)
    others = [f"{other} ({value})" for other, value in sizes]
    then = f", followed by {listed(others)}" if others else ""
    several = run.data is not None and len(run.data["tasks"]) > 1
    of = f" of {about.task}" if several else ""
    if tested(frame):
        on_average = f"{name} ({size} on average)"
        return f"The largest effect on the logit{of} is that of {on_average}{then}.{doubt}"
    return (
        f"The largest mean attribution to the logit{of} is that of {name} ({size}){then}; none was "
        f"tested for significance.{doubt}"
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
        Bar(
            feature_name(str(name)),
            size / widest,
            fixed(size, places),
            low / widest,
            high / widest,
            not sure,
        )
        for name, (size, low, high), sure in zip(top["player"], sizes, clear, strict=True)
    ]
    rows = about.selection.replace(" val rows", " validation rows")
    caption = (
        f"The mean size of the effect on the logit, up or down, relative to the baseline "
        f"({about.baseline}); lines: 95 % interval. By {about.method}, on {rows}, for "
        f"the task {about.task}."
    )
    if not clear.all():
        caption += f" Pale: not significant (q ≥ {SIGNIFICANCE})."
    if len(frame) > MAX_BARS:
        caption += f" {len(frame) - MAX_BARS} more in the table of all inputs."
    return Bars("Which inputs move the predictions?", bars, caption)


def _reliability(run: RunRecord, about: Explanation) -> Iterator[str]:
    yield from map(sentence, trust(about))
    methods = run.rows(METHODS)
    for row in methods[methods["problem"] != ""].itertuples() if len(methods) else ():
        yield f"{row.method} could not explain this model: {row.problem}."
    kinds = {"players": "inputs", "main": "main effects", "pairs": "pairs"}
    scores = {name: run.truth.get(f"truth/{kind}_precision", nan) for kind, name in kinds.items()}
    shares = [f"{percent(s, 0)} of the {name}" for name, s in scores.items() if not isnan(s)]
    if shares:
        yield (
            "The true effects are known, as the data are synthetic. Of them the explanation ranks "
            f"on top {listed(shares)}."
        )


def _inputs_table(frame: pd.DataFrame) -> TableBlock:
    known = frame if "q_value" in frame else frame.assign(q_value=nan)
    sizes = ("mean_abs", "mean_abs_low", "mean_abs_high", "mean", "q_value")
    shown = {name: known[name].map(format_value) for name in sizes}
    columns = {
        "input": frame["player"].map(feature_name),
        "mean size": shown["mean_abs"],
        "95 % interval": shown["mean_abs_low"] + " to " + shown["mean_abs_high"],
        "mean": shown["mean"],
        "rows it raises": frame["positive_share"].map(percent),
        "q-value": shown["q_value"],
    }
    rows = [[*row] for row in zip(*columns.values(), strict=True)]
    return TableBlock("The attributions of each input to the logit", [*columns], rows)


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
    if single := sorted(name for name in run.figures if name.startswith("neurons_")):
        figures = [FigurePart(run.figures[name], **_layer_texts(name)) for name in single]
        blocks.append(Details("The neurons of two layers, one by one", figures))
    return Section("neurons", "The neurons behind the predictions", finding, blocks)


def _layer_texts(name: str) -> dict[str, str]:
    layer = name.removeprefix("neurons_")
    return {part: text.format(layer=layer) for part, text in FIGURES["neurons_of_a_layer"].items()}


def pruning_section(run: RunRecord) -> Section | None:
    """The pruning, its certificate, and both models side by side."""
    certificate, plan = run.certificate, run.plan
    if certificate is None or plan is None:
        return None
    score = f", by {plan.score}" if plan.score else ""
    guarantee = GUARANTEES[certificate.level]
    lead = f"Guarantee {certificate.level}{score}. {guarantee}"
    blocks: list[Block] = [Sentences([lead, *_kept(plan)])]
    if certificate.layers:
        sizes = [(n, cut.before - cut.count, cut.built) for n, cut in certificate.layers.items()]
        bars = [
            Bar(n, kept / built, f"{whole(kept)} of {whole(built)}") for n, kept, built in sizes
        ]
        caption = "The neurons of each layer that are kept, from the input to the output."
        blocks.append(Bars("The size of each layer", bars, caption))
    details = [Code(text(certificate))]
    blocks += [*_both_models(run), *_curves(run)]
    blocks.append(Details("The certificate: pruned neurons and comparison", details))
    finding = f"{proven(certificate)} {of_all_pairs(certificate).replace('on', 'On', 1)}".strip()
    return Section("pruning", "Pruning and its certificate", finding, blocks)


def test_metrics(run: RunRecord) -> list[str]:
    """The primary metrics of the test split, without the name of the split."""
    tests = (name for name in run.metrics if name.startswith("test/"))
    return primary_metrics([name.removeprefix("test/") for name in tests])


def cost_change(run: RunRecord, name: str) -> str:
    """The change of a cost, `−30.5 %`; nothing where it is not known."""
    return relative_change(run.metrics.get(name), run.metrics.get(f"pruned/{name}"))


def _kept(plan: PrunePlan) -> Iterator[str]:
    for name, layer in plan.layers.items():
        if layer.stays:
            share = "one" if layer.constants else "all"
            yield f"{name} keeps {share} of its neurons: {layer.stays}."
    if rejected := sum(layer.refuted for layer in plan.layers.values()):
        yield (
            "Of the neurons with zero attribution on the explained rows, "
            f"{whole(rejected)} {'is' if rejected == 1 else 'are'} kept: they are not constant on "
            "all rows."
        )


def _both_models(run: RunRecord) -> Iterator[Block]:
    metrics, names = run.metrics, test_metrics(run)
    if not names:
        return
    yield TableBlock(
        "Quality on the test split",
        ["metric", "as trained", "pruned", "change (95 % interval)"],
        [[metric_name(name), *_both(run, f"test/{name}"), _change(run, name)] for name in names],
    )
    yield TableBlock(
        "Cost",
        ["", "as trained", "pruned", "change"],
        [[label, form(metrics[n]), form(metrics[f"pruned/{n}"]), cost_change(run, n)]
         for n, (label, form) in COSTS.items() if metrics.get(n)],
    )  # fmt: skip
    yield Sentences([f"{line}." for line in ratio_lines(metrics)])
    end = "top10_agreement"
    for name, share in sorted(metrics.items()):
        if name.endswith(end) and name.startswith("pruned/test/"):
            of = name.removeprefix("pruned/test/").removesuffix(end).rstrip("/")
            yield Sentences([
                f"{percent(share)} of the first 10 of each list are among its first 10 after "
                f"pruning{f' (task {of})' if of else ''}."
            ])  # fmt: skip
    yield from _segments(run)
    every = [n for n in metrics if n.startswith("test/") and f"pruned/{n}" in metrics]
    rows = [[metric_name(name), *_both(run, name)] for name in every]
    table = TableBlock("On the test split", ["metric", "as trained", "pruned"], rows)
    yield Details("All metrics", [table])


def _segments(run: RunRecord) -> Iterator[Block]:
    """A table for each segmentation: quality, and the effect of pruning on it."""
    table = run.rows(SEGMENTS)
    for name, frame in table.groupby("segment", sort=False) if len(table) else ():
        rows = [
            [row["value"], whole(row["rows"]), metric_name(row["metric"]),
             _interval(row, ("trained", "low", "high")), _interval(row, ("pruned",)),
             _interval(row, ("change", "change_low", "change_high"))]
            for row in frame.to_dict("records")
        ]  # fmt: skip
        heads = [str(name), "rows or lists", "metric", "as trained", "pruned", "change"]
        yield TableBlock(f"Test split by {name}, with 95 % intervals", heads, rows)


def _interval(row: Mapping[Any, Any], names: Sequence[str]) -> str:
    """`0.7993 (0.7861 to 0.8121)`, of a metric in a row that also has its size as trained."""
    in_unit = row["metric"].rpartition("/")[2] in IN_UNIT
    value, *ends = (
        minus(format_metric(row["metric"], row[n], row["trained"])) if in_unit else fixed(row[n])
        for n in names
    )
    return f"{value} ({' to '.join(ends)})" if ends and not isnan(row[names[1]]) else value


def _both(run: RunRecord, name: str) -> tuple[str, str]:
    before, after = run.metrics[name], run.metrics[f"pruned/{name}"]
    return metric_text(name, before), metric_text(name, after)


def _change(run: RunRecord, name: str) -> str:
    ends = ("_change", "_change_low", "_change_high")
    values = {end: run.metrics.get(f"pruned/test/{name}{end}", nan) for end in ends}
    return _interval({"metric": name, "trained": run.metrics[f"test/{name}"], **values}, ends)


def _curves(run: RunRecord) -> Iterator[Block]:
    frame = run.rows(PRUNING_CURVES)
    if len(frame) and "pruning_curves" in run.figures:
        metric = curve_metric(frame)
        (raw, split), name = split_metric(metric), metric_name(metric)
        lines = [line.replace(raw, name) for line in pruning_statements(frame, metric)[:2]]
        yield Sentences([sentence(line) for line in lines], "What would pruning more cost?")
        yield FigurePart(
            run.figures["pruning_curves"],
            "lines of a metric against the pruned share of neurons, one for each score",
            f"{name} on the {split} split against the pruned share of each layer, by several "
            "importance scores. A good score stays near the unpruned model for long.",
        )

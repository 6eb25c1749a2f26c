"""The section of a report about pruning: its guarantee, its certificate, and its effects."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan, nan

from glassrec.artifacts import PrunePlan
from glassrec.artifacts.file_list import PRUNING_CURVES
from glassrec.metrics.metadata import IN_UNIT, format_metric, primary_metrics
from glassrec.prune.certificate_text import proven, text
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
    fixed,
    metric_name,
    metric_text,
    minus,
    relative_change,
    sentence,
    whole,
)
from glassrec.report.html import texts
from glassrec.report.run_record import RunRecord
from glassrec.report.statements import curve_metric, pruning_statements, split_metric

GUARANTEES: dict[str, str] = texts("guarantees")


def pruning_section(run: RunRecord) -> Section | None:
    """The pruning, its certificate, and both models side by side."""
    certificate, plan = run.certificate, run.plan
    if certificate is None or plan is None:
        return None
    score = f", by {plan.score}" if plan.score else ""
    guarantee = GUARANTEES[certificate.level]
    blocks: list[Block] = [
        Sentences([f"Guarantee {certificate.level}{score}. {guarantee}", *_kept(plan)])
    ]
    if certificate.layers:
        kept = {n: layer.before - layer.count for n, layer in certificate.layers.items()}
        bars = [
            Bar(n, kept[n] / layer.built, f"{whole(kept[n])} of {whole(layer.built)}")
            for n, layer in certificate.layers.items()
        ]
        caption = "The neurons of each layer that are kept, from the input to the output."
        blocks.append(Bars("The size of each layer", bars, caption))
    blocks += [*_both_models(run), *_curves(run)]
    blocks.append(
        Details("The certificate: pruned neurons and comparison", [Code(text(certificate))])
    )
    return Section("pruning", "Pruning and its certificate", proven(certificate), blocks)


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
        verb = "is" if rejected == 1 else "are"
        yield (
            f"Of the neurons with zero attribution on the explained rows, {whole(rejected)} {verb} "
            "kept: they are not constant on all rows."
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
    every = [n for n in metrics if n.startswith("test/") and f"pruned/{n}" in metrics]
    rows = [[metric_name(name), *_both(run, name)] for name in every]
    more: list[Block] = [TableBlock("On the test split", ["metric", "as trained", "pruned"], rows)]
    if "before_and_after" in run.figures:
        more.append(FigurePart(
            run.figures["before_and_after"],
            "bars of quality and cost as trained and pruned, and of the size of each layer",
            "Quality, cost and size of both models.",
        ))  # fmt: skip
    yield Details("All metrics, and the same as a figure", more)


def _both(run: RunRecord, name: str) -> tuple[str, str]:
    before, after = run.metrics[name], run.metrics[f"pruned/{name}"]
    return metric_text(name, before), metric_text(name, after)


def _change(run: RunRecord, name: str) -> str:
    ends = (f"pruned/test/{name}_change{end}" for end in ("", "_low", "_high"))
    values = [run.metrics.get(end, nan) for end in ends]
    if name.rpartition("/")[2] in IN_UNIT:
        size = run.metrics[f"test/{name}"]
        texts = [minus(format_metric(name, value, size)) for value in values]
    else:
        texts = [fixed(value) for value in values]
    return texts[0] if isnan(values[1]) else f"{texts[0]} ({texts[1]} to {texts[2]})"


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

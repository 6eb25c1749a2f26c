"""The figures of a run, and its page for readers who did not run it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from glassrec.artifacts import File, Picture, Text
from glassrec.artifacts import file_list as files
from glassrec.artifacts.file_list import FIGURES, REPORT
from glassrec.explain import explanation_tables as tables
from glassrec.explain.explainer import KNOWN
from glassrec.report.input_figures import feature_importance, feature_pairs, removals, selections
from glassrec.report.method_figures import faithfulness_curves, methods_agreement, methods_table
from glassrec.report.model_figures import before_and_after, learning_curve, pruning_curves
from glassrec.report.neuron_figures import (
    MAX_ROWS,
    layer_neurons,
    neuron_importance,
    neurons_over_rows,
)
from glassrec.report.row_figures import attribution_strips, explains_steps, single_rows, time_steps
from glassrec.report.run_record import RunRecord
from glassrec.report.run_report import page
from glassrec.report.statements import curve_metric, pruning_statements
from glassrec.stages.context import Context, PipelineSettings
from glassrec.stages.evaluate import EvaluateResult
from glassrec.stages.explain import ExplainResult
from glassrec.stages.prune import PruneResult
from glassrec.stages.train import TrainResult

SAMPLE = 2000
"""Rows, at most, of figures that show single ones."""

Drawing = tuple[File[Picture], Callable[[], Picture]]
"""A figure of the list of files, and how it is drawn."""


def train_pictures(result: TrainResult, monitor: str) -> Iterator[Drawing]:
    """The learning curve, where there was training; `monitor` chose the epoch."""
    if result.epochs:
        yield files.LEARNING_CURVE, lambda: learning_curve(result.history, monitor)


def explain_pictures(result: ExplainResult) -> Iterator[Drawing]:
    """All figures of an explanation; none of what is zero everywhere."""
    about = result.about
    if result.has_effects:
        yield from _of_inputs(result)
    yield from _of_neurons(result)
    if not result.has_effects:
        return
    yield from _of_methods(result)
    if len(result.pairs) > 1 and result.pairs["mean_abs"].any():
        rows = min(result.trained.context.settings.explain.pair_rows, about.rows)
        yield files.FEATURE_PAIRS, lambda: feature_pairs(result.pairs, rows, about)
    if result.other is not None:
        yield (
            files.SELECTIONS_COMPARED,
            partial(selections, result.other[0], about, result.other[1]),
        )


def prune_pictures(result: PruneResult) -> Iterator[Drawing]:
    """The curves of other plans, where they are wanted."""
    curves = result.curves
    if curves is not None:
        metric = curve_metric(curves)
        title = pruning_statements(curves, metric)[0]
        yield files.CURVES_OF_PRUNING, lambda: pruning_curves(curves, metric, title)


def evaluate_pictures(
    result: EvaluateResult, primary: list[str], pruned: PruneResult
) -> Iterator[Drawing]:
    """Quality and cost before and after; `primary` metrics are shown."""
    values = {**result.metrics, **result.latency}
    yield (
        files.BEFORE_AND_AFTER,
        lambda: before_and_after(values, primary, pruned.plan, pruned.certificate),
    )


def _of_inputs(result: ExplainResult) -> Iterator[Drawing]:
    about, attributions = result.about, result.attributions
    yield files.FEATURE_IMPORTANCE, lambda: feature_importance(result.importance, about)
    yield files.SINGLE_ROWS, lambda: single_rows(attributions.sample(SAMPLE), about)
    yield files.SPREAD, lambda: attribution_strips(attributions.sample(SAMPLE), about)
    if explains_steps(attributions.features):
        yield files.TIME_STEPS, lambda: _time_steps(result)
    rows = min(KNOWN, about.rows)
    yield files.REMOVED_KINDS, lambda: removals(result.removals, rows, about)


def _time_steps(result: ExplainResult) -> Picture:
    sample = result.attributions.sample(SAMPLE)
    history = result.trained.explainer.split.batch.history[sample.rows]
    return time_steps(sample, history, result.about)


def _of_neurons(result: ExplainResult) -> Iterator[Drawing]:
    """One of all layers, and two of the first bottleneck layer and of the last layer."""
    scores, about, layers = result.neurons, result.about, result.completeness
    if not scores["max_abs"].any():
        return
    yield files.NEURON_IMPORTANCE, lambda: neuron_importance(scores, about)
    shown = dict.fromkeys([*layers["layer"][layers["cut"]].head(1), *layers["layer"].tail(1)])
    for layer in shown:
        own = scores[scores["layer"] == layer]
        if not own["max_abs"].any():
            continue
        name = layer.replace(".", "_")
        yield files.LAYER_NEURONS.of(layer=name), partial(layer_neurons, own, about)
        names = list(own["name"])
        yield files.LAYER_OVER_ROWS.of(layer=name), partial(_over_rows, result, layer, names)


def _over_rows(result: ExplainResult, layer: str, names: list[str]) -> Picture:
    sample = result.attributions.sample(MAX_ROWS)
    values = tables.neuron_values(result.trained.explainer, sample.rows)[layer]
    return neurons_over_rows(values, sample.logits, names, result.about)


def _of_methods(result: ExplainResult) -> Iterator[Drawing]:
    about = result.about
    rows = min(result.trained.context.settings.explain.faithfulness.rows, about.rows)
    yield files.METHODS_TABLE, lambda: methods_table(result.methods, rows, about)
    if len(result.curves):
        yield files.FAITHFULNESS_CURVES, lambda: faithfulness_curves(result.curves, rows, about)
    if result.agreement["first"].nunique() > 1:
        yield files.METHODS_AGREEMENT, lambda: methods_agreement(result.agreement, rows, about)


def report(context: Context) -> str:
    """Write the page, if it is missing or stale, from all that the run has of its inputs."""
    names = {file.name for file in REPORT.inputs}
    there = sorted(
        (file for file in context.run.files if file.name in names or file.name.startswith(FIGURES)),
        key=lambda file: file.name,
    )
    file = replace(REPORT, inputs=tuple(there))
    hashes = {each.name: context.run.sha256_of(each) for each in there}

    def text() -> Text:
        run = context.run
        record = RunRecord.of_files(run.dir, run.shown, run.provenance, hashes)
        return Text(page(record, _descriptions(context.settings)))

    return context.once(file, text).text


def _descriptions(settings: PipelineSettings) -> dict[str, str]:
    made: Callable[..., Any] = getattr(settings.model, "func", settings.model)
    module = inspect.getmodule(made)
    found = [_first_paragraph(module.__doc__ if module else None), _first_paragraph(made.__doc__)]
    split = getattr(settings.data, "split", None)
    words = {"model": " ".join(filter(None, found))}
    return words | ({} if split is None else {"split": _first_paragraph(type(split).__doc__)})


def _first_paragraph(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())

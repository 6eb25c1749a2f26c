"""The figures of a run, its page for readers who did not run it, and what the tracker gets.

A figure or table is put together only where it is missing, or a tracker has not received it yet.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from math import isnan, nan
from typing import Any

import pandas as pd

from glassrec.artifacts import Attributions, Explanation, File, Picture, Text
from glassrec.artifacts import file_list as files
from glassrec.artifacts.file_list import FIGURES, REPORT
from glassrec.data.decoding import decode
from glassrec.data.schema import TaskKind
from glassrec.explain.explainer import KNOWN
from glassrec.metrics.metadata import best_index
from glassrec.report.beeswarm import beeswarm
from glassrec.report.input_figures import feature_importance, feature_pairs, removals, selections
from glassrec.report.method_figures import faithfulness_curves, methods_agreement, methods_table
from glassrec.report.model_figures import learning_curve, pruning_curves
from glassrec.report.neuron_figures import layer_neurons, neuron_importance
from glassrec.report.row_figures import explains_steps, time_steps
from glassrec.report.run_record import RunRecord
from glassrec.report.run_report import page
from glassrec.report.statements import curve_metric, pruning_statements, significant
from glassrec.report.value_effects import category_effects, numeric_effects
from glassrec.report.waterfall import waterfalls
from glassrec.run import ReadOnlyRun, experiment, key_of
from glassrec.run.provenance import provenance
from glassrec.spelling import NAMED
from glassrec.stages.context import Context, PipelineSettings
from glassrec.stages.explain import ExplainResult
from glassrec.stages.prune import PruneResult
from glassrec.stages.train import TrainResult
from glassrec.tracking import Log, TablePreview

SAMPLE = 2000
"""Rows, at most, of figures that show single ones."""

Drawing = tuple[File[Picture], Callable[[], Picture]]
"""A figure of the list of files, and how it is drawn."""


def train_pictures(result: TrainResult, facts: Mapping[str, Any]) -> Iterator[Drawing]:
    """The learning curve, where there was training, with the metric that chose the epoch."""
    if result.epochs:
        chosen = facts["monitor"], facts.get("monitor_mode")
        yield files.LEARNING_CURVE, lambda: learning_curve(result.history, *chosen)


def explain_pictures(result: ExplainResult, facts: Mapping[str, Any]) -> Iterator[Drawing]:
    """All figures of an explanation; none of what is zero everywhere."""
    about = result.about
    if result.has_effects:
        yield from _of_inputs(result, facts)
    yield from _of_neurons(result)
    if not result.has_effects:
        return
    yield from _of_methods(result)
    if len(result.pairs) > 1 and result.pairs["mean_abs"].any():
        rows = min(result.trained.context.settings.explain.pair_rows, about.rows)
        yield files.FEATURE_PAIRS, lambda: feature_pairs(result.pairs, rows, about)
    if result.other is not None:
        compared, other = result.other
        yield files.SELECTIONS_COMPARED, partial(selections, compared, about, other)


def prune_pictures(result: PruneResult) -> Iterator[Drawing]:
    """The curves of other plans, where they are wanted."""
    curves = result.curves
    if curves is not None:
        metric = curve_metric(curves)
        title = pruning_statements(curves, metric)[0]
        yield files.CURVES_OF_PRUNING, lambda: pruning_curves(curves, metric, title)


def _of_inputs(result: ExplainResult, facts: Mapping[str, Any]) -> Iterator[Drawing]:
    about = result.about
    yield files.FEATURE_IMPORTANCE, lambda: feature_importance(result.importance, about)
    yield from _of_values(result, facts)
    if explains_steps(result.attributions.features):
        yield files.TIME_STEPS, lambda: _time_steps(result)
    rows = min(KNOWN, about.rows)
    yield files.REMOVED_KINDS, lambda: removals(result.removals, rows, about)


def _of_values(result: ExplainResult, facts: Mapping[str, Any]) -> Iterator[Drawing]:
    """The figures that show raw values; of numbers or names only where some have an effect."""

    @cache
    def parts() -> tuple[Attributions, pd.DataFrame, Explanation, TaskKind]:
        sample, explainer = result.attributions.sample(SAMPLE), result.trained.explainer
        values = decode(explainer.dataset, explainer.split.batch.select(sample.rows))
        return sample, values, result.about, explainer.target.kind

    yield files.BEESWARM, lambda: beeswarm(*parts())
    moving = set(result.importance.loc[result.importance["max_abs"] > 0, "player"])
    steps = range(1, 1 + (facts["history"] or {"length": 0})["length"])
    names = {*(field["name"] for field in facts["fields"]), *(f"history[-{n}]" for n in steps)}
    if moving & set(facts["dense"]):
        yield files.NUMERIC_EFFECTS, lambda: numeric_effects(*parts())
    if moving & names:
        yield files.CATEGORY_EFFECTS, lambda: category_effects(*parts())
    yield files.WATERFALLS, lambda: waterfalls(*parts())


def _time_steps(result: ExplainResult) -> Picture:
    sample = result.attributions.sample(SAMPLE)
    history = result.trained.explainer.split.batch.history[sample.rows]
    return time_steps(sample, history, result.about, result.importance)


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


def _of_methods(result: ExplainResult) -> Iterator[Drawing]:
    about = result.about
    rows = min(result.trained.context.settings.explain.faithfulness.rows, about.rows)
    yield files.METHODS_TABLE, lambda: methods_table(result.methods, rows, about)
    if len(result.curves):
        yield files.FAITHFULNESS_CURVES, lambda: faithfulness_curves(result.curves, rows, about)
    if result.agreement["first"].nunique() > 1:
        yield files.METHODS_AGREEMENT, lambda: methods_agreement(result.agreement, rows, about)


def report(context: Context, log: Log) -> None:
    """Write the page, if it is missing or stale, from all that the run has of its inputs."""
    names = {file.name for file in REPORT.inputs}
    shared: list[File[Any]] = [files.DATA, files.HISTORY] if context.parent is not None else []
    there = sorted(
        (
            file
            for file in (*shared, *context.run.files)
            if file.name in names
            or (file.name.startswith(FIGURES) and (context.run.dir / file.name).is_file())
        ),
        key=lambda file: file.name,
    )
    file = replace(REPORT, inputs=tuple(there))
    hashes = {each.name: context.run.sha256_of(each) for each in there}

    def text() -> Text:
        run = context.run
        record = RunRecord.of_files(run.dir, run.shown, run.provenance, hashes)
        return Text(page(record, _descriptions(context.settings)))

    context.once(file, text)
    log.page("report", context.run.dir / file.name, context.run.sha256_of(file))


def _descriptions(settings: PipelineSettings) -> dict[str, str]:
    made: Callable[..., Any] = getattr(settings.model, "func", settings.model)
    module = inspect.getmodule(made)
    found = [_first_paragraph(module.__doc__ if module else None), _first_paragraph(made.__doc__)]
    split = getattr(settings.data, "split", None)
    words = {"model": " ".join(filter(None, found))}
    return words | ({} if split is None else {"split": _first_paragraph(type(split).__doc__)})


def _first_paragraph(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())


TRACKED_ROWS = 1000
"""Rows, at most, of the table of attributions."""

RANKS = 1000
"""Neurons of a layer, at most, in the curve of their conductance."""

DIFFERENCES = ("max_abs_logit_difference", "p999_abs_logit_difference")

ONE = pd.Series([1])
"""The sizes of a table that has none."""


def track_data(log: Log, context: Context) -> None:
    """The settings of the data and the hashes of its files, without a row of it; the versions."""
    settings = experiment(context.run.shown)["data"]
    facts = {"settings": settings, "files": context.external["data"]}
    log.artifact("data", [], facts)
    log.settings(lambda: _origin(context.run) | {"data_hash": key_of(facts)[:12]})


def _origin(run: ReadOnlyRun) -> dict[str, Any]:
    """The versions that trained the run, or are about to."""
    try:
        found = run.provenance
    except ValueError:
        found = provenance(run.config["seed"], (), {})
    return {"version": found["glassrec"], "commit": found["git_commit"]}


def track_training(log: Log, context: Context) -> None:
    """The selected epoch; the weights, and the hashes of what they were trained on."""
    rows = context.run.load(files.HISTORY).frame.to_dict("records")
    facts = context.run.load(files.DATA).values
    monitor = facts["monitor"]
    for row in rows:  # of a training that nobody tracked
        log.epoch({str(name): value for name, value in row.items() if not isnan(value)})
    if validated := [row for row in rows if not isnan(row.get(monitor, nan))]:
        values = [row[monitor] for row in validated]
        best = validated[best_index(monitor, values, facts.get("monitor_mode"))]
        epochs = {"best_epoch": best["epoch"], "epochs": rows[-1]["epoch"]}
        log.summary({str(name): value for name, value in best.items()} | epochs)
    _files(log, "checkpoint", context.run, (files.WEIGHTS,), context.external)


def track_explanation(log: Log, result: ExplainResult) -> None:
    """Its facts and tables, the conductance of every layer, and the files."""
    run, about = result.trained.context.run, result.about
    names = ("method", "baseline", "selection", "relative_delta", "rank_stability")
    facts: dict[str, float | str] = {name: getattr(about, name) for name in names}
    facts |= {"trusted": float(about.trusted), "constant": float(about.constant)}
    facts["significant"] = ", ".join(significant(result.importance)["player"].head(NAMED))
    log.summary({f"explain/{name}": value for name, value in facts.items()})
    neurons = result.neurons.sort_values("mean_abs", ascending=False, kind="stable")
    frames = {
        "importance": (files.IMPORTANCE, result.importance.sort_values("rank", kind="stable")),
        "neurons": (files.NEURONS, neurons),
        "methods": (files.METHODS, result.methods),
        "pairs": (files.PAIRS, result.pairs),
    }
    for name, (file, frame) in frames.items():
        if len(frame) and frame.get("mean_abs", ONE).any():  # a ranking of zeros is none
            log.table(
                name, run.sha256_of(file), partial(TablePreview, frame, len(frame), file.name)
            )
    log.table("attributions", run.sha256_of(files.ATTRIBUTIONS), lambda: _attribution_rows(result))
    log.curve("neuron/rank", run.sha256_of(files.NEURONS), lambda: _by_rank(result.neurons))
    made = (files.ATTRIBUTIONS, files.IMPORTANCE, files.NEURONS, files.EXPLANATION)
    _files(log, "attributions", run, made, _hashes(run, (files.WEIGHTS,)))


def track_pruning(log: Log, result: PruneResult) -> None:
    """The curves, the facts of the certificate, and the smaller model."""
    run, certificate, curves = result.context.run, result.certificate, result.curves
    if curves is not None:
        log.curve("prune/share", run.sha256_of(files.PRUNING_CURVES), lambda: _by_share(curves))
    facts: dict[str, float | str] = {
        "level": certificate.level,
        "exact": float(certificate.exact),
        "rows": float(sum(certificate.rows.values())),
        **{name: getattr(certificate, name) for name in DIFFERENCES},
        "units": float(result.plan.dropped),
    }
    log.summary({f"certificate/{name}": value for name, value in facts.items()})
    made = (files.PRUNED, files.PLAN, files.CERTIFICATE, files.CERTIFICATE_TEXT)
    _files(log, "pruned", run, made, _hashes(run, (files.WEIGHTS, files.NEURONS)))


def _files(
    log: Log, kind: str, run: ReadOnlyRun, made: tuple[File[Any], ...], made_of: Mapping[str, Any]
) -> None:
    facts = {"files": _hashes(run, made), "made_of": made_of}
    log.artifact(kind, [run.dir / file.name for file in made], facts)


def _hashes(run: ReadOnlyRun, made: tuple[File[Any], ...]) -> dict[str, str]:
    return {file.name: run.sha256_of(file) for file in made}


def _attribution_rows(result: ExplainResult) -> TablePreview:
    sample = result.attributions.sample(TRACKED_ROWS)
    order = list(result.importance.sort_values("rank", kind="stable")["player"])
    values = pd.DataFrame(sample.values.numpy(), columns=list(sample.features))[order]
    about = {"row": sample.rows, "label": sample.labels, "logit": sample.logits}
    facts = pd.DataFrame({name: column.numpy() for name, column in about.items()})
    frame = pd.concat([facts, values], axis=1)
    return TablePreview(frame, result.attributions.rows, files.ATTRIBUTIONS.name)


def _by_rank(neurons: pd.DataFrame) -> Iterator[dict[str, float]]:
    """The mean |conductance| of each layer's neurons, the largest first; one point for a rank."""
    layers = {
        f"neuron/{str(layer).replace('.', '_')}": own["mean_abs"]
        .sort_values(ascending=False)
        .tolist()[:RANKS]
        for layer, own in neurons.groupby("layer", sort=False)
    }
    for place in range(max(map(len, layers.values()), default=0)):
        found = {name: values[place] for name, values in layers.items() if place < len(values)}
        yield {"neuron/rank": place + 1, **found}


def _by_share(curves: pd.DataFrame) -> Iterator[dict[str, float]]:
    """The mean metrics over the draws of each score and variant; one point for a share."""
    metrics = [name for name in map(str, curves) if "/" in name]
    means = curves.groupby(["share", "score", "folded", "epochs"], sort=True)[metrics].mean()
    for share, rows in means.reset_index().groupby("share"):
        point = {"prune/share": float(str(share))}
        for row in rows.to_dict("records"):
            tuned = f"_{row['epochs']}_epochs" if row["epochs"] else ""
            variant = f"{row['score']}{'' if row['folded'] else '_unfolded'}{tuned}"
            point |= {f"prune/{variant}/{name}": float(row[name]) for name in metrics}
        yield point

"""Prune: the plan, the smaller model, its certificate, and the curves of other plans."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from glassrec.artifacts import Certificate, File, PrunePlan, StoredTable, Text, Weights
from glassrec.artifacts import file_list as files
from glassrec.explain.explanation_tables import neuron_scores
from glassrec.metrics.cost import cost, flops
from glassrec.metrics.metadata import as_higher_is_better, primary_metrics
from glassrec.metrics.quality import quality
from glassrec.models.base import Recommender
from glassrec.processes import from_first
from glassrec.prune.budget import Measures
from glassrec.prune.certificate_text import text
from glassrec.prune.pruner import combine_plans
from glassrec.prune.surgery import apply_plan
from glassrec.stages.context import Context, TrainedModel
from glassrec.stages.int8 import check_int8, compare_int8, int8_copy


@dataclass(frozen=True)
class PruneResult:
    """The smaller model and the changes that pruning made."""

    context: Context
    plan: PrunePlan
    weights: Weights
    certificate: Certificate
    curves: pd.DataFrame | None
    """quality at other shares, by importance score; None where it is not wanted"""

    @cached_property
    def model(self) -> Recommender:
        """The smaller model, on the trainer's device."""
        return self.context.load_model(self.weights, files.PRUNED)


def prune(context: Context, trained: TrainedModel, neurons: pd.DataFrame) -> PruneResult:
    """Prune the neurons that do nothing, or the least, and certify the change.

    `context` is that of the run, or of a cut of it, whose settings and files these are.
    """
    settings = context.settings.prune
    if settings.quantize and not context.run.has(files.INT8):
        check_int8(context)
    measures = cache(partial(_measures, context, trained))
    plan, weights = _rounds(context, trained, neurons, measures)
    file, int8 = files.CERTIFICATE, None
    if settings.quantize:
        int8 = context.once(files.INT8, lambda: int8_copy(context, weights), "making the int8 copy")
        file = replace(file, inputs=(*file.inputs, files.INT8))
    else:
        context.run.forget(files.INT8)

    def compare() -> Certificate:
        found = settings.certify(
            trained.reference_model,
            weights,
            plan,
            context.dataset,
            files={each.name: context.run.sha256_of(each) for each in file.inputs},
            given=context.external,
        )
        if int8 is None:
            return found
        return replace(found, int8=from_first(lambda: compare_int8(trained, int8)))

    certificate = context.once(file, compare, "comparing both models on all rows")
    context.once(files.CERTIFICATE_TEXT, lambda: Text(text(certificate)))
    curves = _curves(context, trained, neurons, measures)
    return PruneResult(context, plan, weights, certificate, curves)


@dataclass(frozen=True)
class _Round:
    plan: PrunePlan
    weights: Weights
    files: tuple[File[Any], File[Any]]


def _rounds(
    context: Context,
    trained: TrainedModel,
    neurons: pd.DataFrame,
    measures: Callable[[], Measures],
) -> tuple[PrunePlan, Weights]:
    """The plan and the weights of the last round; each leaves the same share of what it gets."""
    settings = context.settings.prune
    count = settings.rounds if settings.level == "budget" else 1
    _forget_other_rounds(context, count)
    before: _Round | None = None
    for number in range(1, count):
        share = 1 - (1 - settings.share) ** (number / count)
        made = files.ROUND_PLAN.of(round=number), files.ROUND_PRUNED.of(round=number)
        doing = f", round {number} of {count}" if before else ""
        before = _round(context, trained, neurons, measures, share, made, before, doing)
    doing = f", round {count} of {count}" if before else ""
    made = files.PLAN, files.PRUNED
    last = _round(context, trained, neurons, measures, settings.share, made, before, doing)
    return last.plan, last.weights


def _round(
    context: Context,
    trained: TrainedModel,
    neurons: pd.DataFrame,
    measures: Callable[[], Measures],
    share: float,
    made: tuple[File[PrunePlan], File[Weights]],
    before: _Round | None,
    number: str,
) -> _Round:
    settings = context.settings.prune
    plan_file, pruned_file = made
    if before is not None:
        plan_file = replace(plan_file, inputs=(*plan_file.inputs, *before.files))

    def large() -> Recommender:
        if before is None:
            return trained.reference_model
        return context.load_model(before.weights, before.files[1])

    def make_plan() -> PrunePlan:
        model, scores = large(), neurons
        if before is not None:
            explainer = context.explain.build_explainer(
                model, context.dataset, context.settings.seed
            )
            scores = neuron_scores(explainer)
        found = replace(settings, share=share).plan(
            model, scores, context.dataset,
            seed=context.settings.seed, measures=measures(), reference_model=trained.model,
        )  # fmt: skip
        found = replace(found, finetuned=settings.level == "budget" and settings.epochs > 0)
        return found if before is None else combine_plans(before.plan, found)

    plan = context.once(plan_file, make_plan, f"planning which neurons to prune{number}")
    pruned_file = replace(pruned_file, inputs=(files.WEIGHTS, plan_file))

    def of_origin(weights: Weights) -> Weights:
        return replace(weights, origin=trained.weights.origin)

    if not plan.finetuned:
        weights = context.once(
            pruned_file, lambda: of_origin(settings.prune(trained.reference_model, plan))
        )
        return _Round(plan, weights, (plan_file, pruned_file))
    earlier = () if before is None else (before.files[1],)
    pruned_file = replace(
        pruned_file, inputs=(*pruned_file.inputs, *earlier), settings=("prune.epochs",)
    )

    def tuned() -> Weights:
        small = deepcopy(apply_plan(large(), plan).float()).train()  # with a table of its own
        trainer = replace(context.settings.trainer, max_epochs=settings.epochs)
        folder, origin = context.parts(pruned_file), context.run.sha256_of(plan_file)
        found = context.fit(small, trainer, folder, origin, lambda _: None, started=True)
        return of_origin(Weights(found.weights))

    doing = f"fine-tuning the smaller model for {settings.epochs} epochs"
    return _Round(plan, context.once(pruned_file, tuned, doing), (plan_file, pruned_file))


def _forget_other_rounds(context: Context, count: int) -> None:
    wanted = {files.ROUND_PLAN.of(round=number).name for number in range(1, count)}
    for name in context.run.recorded:
        if files.ROUND_PLAN.matches(name) and name not in wanted:
            context.run.forget(replace(files.ROUND_PLAN, name=name))


def _measures(context: Context, trained: TrainedModel) -> Measures:
    """The loss, the cost and the quality that a budget may need."""
    dataset, settings = context.dataset, context.settings
    metric = settings.trainer.monitored_metric(dataset, settings.objective)

    def value(model: Recommender) -> float:
        found = quality(model, dataset, "val")[metric.removeprefix("val/")]
        return as_higher_is_better(metric, found)

    best = value(trained.model) if settings.prune.max_metric_drop is not None else 0.0
    return Measures(
        loss=settings.objective.build_loss(dataset),
        flops=lambda model: flops(model, dataset.validation.batch),
        metric_drop=lambda model: best - value(model),
    )


def _curves(
    context: Context,
    trained: TrainedModel,
    neurons: pd.DataFrame,
    measures: Callable[[], Measures],
) -> pd.DataFrame | None:
    """On validation alone: a choice by the test split would look better than it is."""
    settings = context.settings.prune
    curves = settings.curves
    if curves is None or context.run.load(files.DATA).values.get("monitor", "") is None:
        context.run.forget(files.PRUNING_CURVES)
        return None

    def measured(model: Recommender) -> dict[str, float]:
        found = quality(model, context.dataset, "val")
        costs = cost(model, model.state_dict(), context.dataset.validation.batch)
        return costs | {f"val/{name}": found[name] for name in primary_metrics(found)}

    def tuned(small: Recommender, epochs: int) -> Recommender:
        trainer = replace(context.settings.trainer, max_epochs=epochs)
        device = small.device
        # Among the parts, so that the files of a killed process go once the table is made.
        with TemporaryDirectory(dir=context.parts(files.PRUNING_CURVES)) as folder:
            context.fit(
                small.train(), trainer, Path(folder), "", lambda _: None, started=True, quiet=True
            )
        return small.to(device).eval()  # training leaves it on the CPU

    def make() -> StoredTable:
        seed, loss = context.settings.seed, measures().loss
        calibration = settings.calibration(trained.model, neurons, context.dataset, seed, loss)
        return StoredTable(curves.compute(calibration, measured, tuned))

    doing = "measuring quality at other shares, by each importance score"
    return context.once(files.PRUNING_CURVES, make, doing).frame

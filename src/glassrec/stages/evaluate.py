"""Evaluate: quality and cost before and after pruning, and the changes between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from glassrec.artifacts import Explanation, Metrics, StoredTable
from glassrec.artifacts.file_list import INT8, LATENCY, METRICS, SEGMENTS
from glassrec.explain.explanation_tables import change_of_kept_neurons
from glassrec.explain.neurons import Conductance
from glassrec.metrics.cost import latency
from glassrec.metrics.evaluation import DEFAULT
from glassrec.metrics.model_pair import ModelPair, agreement, metric_changes
from glassrec.metrics.quality import quality
from glassrec.metrics.segments import segment_table
from glassrec.processes import from_first
from glassrec.stages.context import TrainedModel
from glassrec.stages.int8 import int8_pair
from glassrec.stages.prune import PruneResult

FOLLOWED_ROWS = 200
"""Explained rows, at most, on which the conductance of both models is compared."""


@dataclass(frozen=True)
class EvaluateResult:
    """The numbers by which runs are compared."""

    metrics: Mapping[str, float]
    latency: Mapping[str, float]
    """of its own file, as no two measurements are equal"""


def evaluate(trained: TrainedModel, about: Explanation, pruned: PruneResult) -> EvaluateResult:
    """Measure quality and cost of both models."""
    context = pruned.context
    metrics = context.once(
        METRICS,
        lambda: Metrics(measure(trained, about, pruned)),
        "measuring quality on the validation and the test split",
    )
    _by_segment(trained, pruned)
    extra = (INT8,) if pruned.certificate.int8 else ()
    clocked = context.once(
        replace(LATENCY, inputs=(*LATENCY.inputs, *extra)),
        lambda: Metrics(_latency(trained, pruned)),
        "timing both models, in turns",
    )
    return EvaluateResult(metrics.values, clocked.values)


def _by_segment(trained: TrainedModel, pruned: PruneResult) -> None:
    context = pruned.context
    further, seed = context.settings.evaluation or DEFAULT, trained.context.settings.seed
    if further.segments:
        pair = ModelPair(trained.model, pruned.model, trained.context.dataset, "test")
        doing = "measuring quality by segment"
        context.once(SEGMENTS, lambda: StoredTable(segment_table(pair, further, seed)), doing)
    else:
        context.writable.forget(SEGMENTS)


def measure(trained: TrainedModel, about: Explanation, pruned: PruneResult) -> dict[str, float]:
    """The content of the metrics' file."""
    small = pruned.context.quality_and_cost(pruned.model, pruned.weights)
    small |= _changes(trained, pruned)
    after = {f"pruned/{name}": value for name, value in small.items()}
    after |= _of_int8(trained, pruned)
    return trained.quality_and_cost | after | {"explain/relative_delta": about.relative_delta}


def _of_int8(trained: TrainedModel, pruned: PruneResult) -> dict[str, float]:
    """`int8/test/auroc` and so on, with the changes from the trained model; none without a copy."""
    if (certified := pruned.certificate.int8) is None:
        return {}
    found = {"bytes": float(certified.bytes)}
    seed, content = trained.context.settings.seed, pruned.context.run.load(INT8)
    for split in ("val", "test"):
        pair = int8_pair(trained, content, split)
        values = quality(pair.small, pair.dataset, split, logits=pair.logits[1])
        values |= _compared(pair, seed, metric_changes, agreement)
        found |= {f"{split}/{name}": value for name, value in values.items()}
    differences = {n: v for n, v in vars(certified).items() if n.endswith("logit_difference")}
    return {f"int8/{name}": value for name, value in (found | differences).items()}


def _compared(
    pair: ModelPair, seed: int, *measures: Callable[..., dict[str, float]]
) -> dict[str, float]:
    _ = pair.logits  # all processes share them, and the first one does the rest
    return from_first(lambda: {k: v for m in measures for k, v in m(pair, seed=seed).items()})


def _changes(trained: TrainedModel, pruned: PruneResult) -> dict[str, float]:
    seed, certificate = trained.context.settings.seed, pruned.certificate
    pair, on_val = (
        ModelPair(trained.model, pruned.model, trained.context.dataset, split)
        for split in ("test", "val")
    )
    on_test = _compared(pair, seed, metric_changes, agreement)
    explain = replace(trained.context.explain, neurons=Conductance())
    large, small = (
        explain.build_explainer(model, pair.dataset, seed) for model in (pair.large, pair.small)
    )
    return {
        **{f"test/{name}": value for name, value in on_test.items()},
        **{f"val/{name}": value for name, value in _compared(on_val, seed, metric_changes).items()},
        "units": float(pruned.plan.dropped),
        "max_abs_logit_difference": certificate.max_abs_logit_difference,
        "p999_abs_logit_difference": certificate.p999_abs_logit_difference,
        "rows_changed": float(certificate.rows_changed),
        "share_changed": certificate.rows_changed / sum(certificate.rows.values()),
        "conductance_change": change_of_kept_neurons(large, small, FOLLOWED_ROWS),
    }


def _latency(trained: TrainedModel, pruned: PruneResult) -> dict[str, float]:
    rows = trained.context.dataset.test.batch
    large, small = latency(trained.model, pruned.model, rows)
    found = large | {f"pruned/{name}": value for name, value in small.items()}
    if pruned.certificate.int8 is None:
        return found
    _, int8 = latency(trained.model, int8_pair(trained, pruned.context.run.load(INT8)).small, rows)
    ratios = {name: value for name, value in int8.items() if "_ratio" in name}
    return found | {f"int8/{name}": value for name, value in ratios.items()}

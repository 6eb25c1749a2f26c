"""Evaluate: quality and cost before and after the cut, and what the cut changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from math import nan
from typing import Any, ClassVar

from glassrec.artifacts import Metrics, Weights
from glassrec.explain.explanation_tables import change_of_kept_neurons
from glassrec.explain.neurons import Conductance
from glassrec.metrics.agreement import TOP, ModelPair, agreement
from glassrec.metrics.cost import SIZES, cost, latency
from glassrec.metrics.metadata import format_metric, primary_metrics
from glassrec.metrics.paired_bootstrap import metric_changes
from glassrec.metrics.quality import quality
from glassrec.models.base import Recommender
from glassrec.report.formatting import minus
from glassrec.report.model_figures import before_and_after
from glassrec.stages.prune import Pruning
from glassrec.stages.report import Reporting
from glassrec.stages.stage import Stage

FOLLOWED = 200
"""Explained rows, at most, on which the conductance of both models is compared."""


class Evaluating(Stage):
    """The numbers that runs are compared by."""

    name: ClassVar[str] = "evaluate"

    def __init__(self, pruned: Pruning) -> None:
        super().__init__(pruned.settings, pruned.log, pruned.given)
        self.pruned, self.trained = pruned, pruned.trained

    def tell(self) -> None:
        """Measure quality and cost before and after the cut."""
        values = self.metrics.values | self.latency.values
        self.log.summary(values)
        test = "test/"
        shown = primary_metrics(
            [name.removeprefix(test) for name in values if name.startswith(test)]
        )
        self.figure(
            "before_and_after",
            ["metrics.json", "latency.json", "plan.json", "certificate.json"],
            lambda: before_and_after(values, shown, self.pruned.plan, self.pruned.certificate),
        )
        metrics = [
            *_quality(values, shown),
            *self.trained.repeats,
            *_unseen(values, shown, self.trained.facts),
        ]
        for line in (*metrics, *_costs(values), *_agreement(values)):
            self.say(line)
        Reporting(self.trained).tell()

    @cached_property
    def metrics(self) -> Metrics:
        """Quality and cost of both models, and what the stages between found."""
        self.pruned.certificate  # noqa: B018  made first: it is one of the inputs
        self.pruned.explained.about  # noqa: B018
        return self.once(
            "metrics.json",
            Metrics,
            self.measure,
            inputs=[
                "weights.safetensors", "explanation.json", "neurons.parquet", "certificate.json"
            ],
            doing="measuring quality on the validation and the test split",
        )  # fmt: skip

    @cached_property
    def latency(self) -> Metrics:
        """How long both models take; a file of its own, as no two measurements are equal."""
        self.pruned.weights  # noqa: B018  made first
        return self.once(
            "latency.json",
            Metrics,
            self._clock,
            inputs=["weights.safetensors", "pruned.safetensors"],
            doing="timing both models, in turns",
        )

    def _clock(self) -> Metrics:
        rows = self.trained.dataset.test.batch
        large, small = latency(self.trained.model, self.pruned.model, rows)
        return Metrics(large | {f"pruned/{name}": value for name, value in small.items()})

    def measure(self) -> Metrics:
        """The content of `metrics.json`."""
        values = self._quality_and_cost(self.trained.model, self.trained.weights)
        small = self._quality_and_cost(self.pruned.model, self.pruned.weights) | self._changes()
        values |= {f"pruned/{name}": value for name, value in small.items()}
        return Metrics(
            values | {"explain/relative_delta": self.pruned.explained.about.relative_delta}
        )

    def _quality_and_cost(self, model: Recommender, weights: Weights) -> dict[str, float]:
        values = cost(model, weights.tensors, self.trained.dataset.test.batch)
        for name in ("val", "test"):
            found = quality(model, self.trained.dataset, name, groups=True)
            values |= {f"{name}/{metric}": value for metric, value in found.items()}
        return values

    def _changes(self) -> dict[str, float]:
        """What the cut changed: on the test split, on all rows, and for the kept units."""
        pair = ModelPair(self.trained.model, self.pruned.model, self.trained.dataset, "test")
        seed, certificate = self.settings.seed, self.pruned.certificate
        on_test = metric_changes(pair, seed=seed) | agreement(pair, seed=seed)
        return {
            **{f"test/{name}": value for name, value in on_test.items()},
            "units": float(self.pruned.plan.dropped),
            "max_abs_logit_difference": certificate.max_abs_logit_difference,
            "p999_abs_logit_difference": certificate.p999_abs_logit_difference,
            "rows_changed": float(certificate.rows_changed),
            "share_changed": certificate.rows_changed / sum(certificate.rows.values()),
            "conductance_change": self._change_of_kept_units(pair),
        }

    def _change_of_kept_units(self, pair: ModelPair) -> float:
        explain = replace(self.trained.explain, neurons=Conductance())
        large, small = (
            explain.build_explainer(model, pair.dataset, self.settings.seed)
            for model in (pair.large, pair.small)
        )
        return change_of_kept_neurons(large, small, FOLLOWED)


def _quality(values: dict[str, float], shown: list[str]) -> Iterator[str]:
    for metric in shown:
        before, after = values[f"test/{metric}"], values[f"pruned/test/{metric}"]
        change, low, high = (
            minus(format_metric(metric, values[f"pruned/test/{metric}_change{end}"], before))
            for end in ("", "_low", "_high")
        )
        said = (
            f"test/{metric} {format_metric(metric, before)} as trained, "
            f"{format_metric(metric, after, before)} pruned"
        )
        yield f"{said}: {change} ({low} to {high})"
    if "test/auroc" in values:
        low, high = (f"{values[f'test/auroc_{end}']:.4f}" for end in ("low", "high"))
        yield f"test/auroc as trained lies between {low} and {high} (95 % confidence, as above)"


HAVE = {
    ("unseen_user", "users"): "are unseen in training",
    ("unseen_user", "rows"): "have a user unseen in training",
    ("unseen_user", "lists"): "have a user unseen in training",
    ("unseen_item", "rows"): "have an item unseen in training",
    ("unseen_item", "lists"): "hold out an item unseen in training",
}
"""What distinguishes the rows, lists or users of a group."""


def _unseen(
    values: Mapping[str, float], shown: list[str], facts: Mapping[str, Any]
) -> Iterator[str]:
    """The main metric of each task on users and items that training has not seen."""
    totals = {"rows": facts["rows"]["test"], "lists": facts["lists"].get("test")}
    for metric in shown[::2]:
        task, slash, name = metric.rpartition("/")
        known = values.get(f"test/{task}{slash}known/{name}", nan)
        for (group, units), have in HAVE.items():
            own = f"test/{task}{slash}{group}"
            count, total = values.get(f"{own}/{units}"), totals.get(units)
            if count is not None:
                share = f" ({count / total:.1%})" if total else ""
                found = values.get(f"{own}/{name}", nan)
                yield (
                    f"{count:,.0f} test {units}{share} {have}: {metric} "
                    f"{format_metric(name, found, known)} there, "
                    f"{format_metric(name, known)} on known ones"
                )


def _costs(values: dict[str, float]) -> Iterator[str]:
    rows = SIZES[-1]
    for name, said, form, unit in (
        ("parameters", "parameters", ",.0f", ""),
        ("flops", "FLOPs a row", ",.0f", ""),
        ("bytes", "bytes", ",.0f", ""),
        (f"latency_p50_{rows}", f"latency of {rows:,} rows", ".2f", " ms"),
    ):
        before, after = values[name], values[f"pruned/{name}"]
        change = f" ({minus(f'{after / before - 1:+z.1%}')})" if before else ""
        yield f"{said} {before:{form}}{unit} as trained, {after:{form}}{unit} pruned{change}"


def _agreement(values: dict[str, float]) -> Iterator[str]:
    for name, share in values.items():
        if name.endswith(f"top{TOP}_agreement"):
            metric = name.removeprefix("pruned/")
            yield f"{metric} {share:.4f}: the share of a list's first {TOP} that still are"

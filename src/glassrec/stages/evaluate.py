"""Evaluate: quality and size before and after the cut."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from glassrec.artifacts import Metrics
from glassrec.evaluate.cost import cost
from glassrec.evaluate.quality import headline, quality
from glassrec.models.base import Recommender
from glassrec.report import figures
from glassrec.stages.prune import Pruning
from glassrec.stages.stage import Stage


class Evaluating(Stage):
    """The numbers that runs are compared by."""

    name: ClassVar[str] = "evaluate"

    def __init__(self, pruned: Pruning) -> None:
        super().__init__(pruned.settings, pruned.log, pruned.given)
        self.pruned, self.trained = pruned, pruned.trained

    def tell(self) -> None:
        """Measure quality and size before and after the cut."""
        values = self.metrics.values
        self.log.summary(values)
        test = "test/"
        shown = headline([name.removeprefix(test) for name in values if name.startswith(test)])
        self.figure(
            "before_and_after",
            ["metrics.json", "plan.json", "certificate.json"],
            lambda: figures.before_and_after(
                values, shown, self.pruned.plan, self.pruned.certificate
            ),
        )
        for name in (*(f"test/{metric}" for metric in shown), "parameters"):
            form = ",.0f" if name == "parameters" else ".4f"
            before, after = (f"{values[key]:{form}}" for key in (name, f"pruned/{name}"))
            self.say(f"{name} {before} as trained, {after} pruned")
        if "test/auroc" in values:
            low, high = values["test/auroc_low"], values["test/auroc_high"]
            self.say(f"test/auroc lies between {low:.4f} and {high:.4f} (95 % confidence)")

    @cached_property
    def metrics(self) -> Metrics:
        """Quality and size of both models, and what the stages between found."""
        self.pruned.certificate  # noqa: B018  made first: it is one of the inputs
        self.pruned.explained.about  # noqa: B018
        return self.once(
            "metrics.json",
            Metrics,
            self._measure,
            inputs=["weights.safetensors", "explanation.json", "certificate.json"],
            doing="measuring quality on the validation and the test split",
        )

    def _measure(self) -> Metrics:
        values = self._quality_and_cost(self.trained.model)
        small = self._quality_and_cost(self.pruned.model)
        values |= {f"pruned/{name}": value for name, value in small.items()}
        certificate = self.pruned.certificate
        values |= {
            "pruned/units": float(self.pruned.plan.dropped),
            "pruned/max_abs_logit_difference": certificate.max_abs_logit_difference,
            "pruned/p999_abs_logit_difference": certificate.p999_abs_logit_difference,
            "pruned/rows_changed": float(certificate.rows_changed),
            "explain/relative_delta": self.pruned.explained.about.relative_delta,
        }
        return Metrics(values)

    def _quality_and_cost(self, model: Recommender) -> dict[str, float]:
        values = cost(model)
        for name in ("val", "test"):
            found = quality(model, self.trained.dataset, name)
            values |= {f"{name}/{metric}": value for metric, value in found.items()}
        return values

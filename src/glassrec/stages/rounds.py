"""The cut in rounds: what goes in each, and what is left, trained on if that is asked."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import ClassVar

import pandas as pd

from glassrec.artifacts import PrunePlan, Weights
from glassrec.explain.explanation_tables import neuron_scores
from glassrec.metrics.cost import flops
from glassrec.metrics.metadata import as_higher_is_better
from glassrec.metrics.quality import quality
from glassrec.models.base import Recommender
from glassrec.prune.budget import Measures
from glassrec.prune.plan import combine_plans
from glassrec.prune.pruner import Pruner
from glassrec.prune.surgery import apply_plan
from glassrec.stages.explain import Explaining
from glassrec.stages.stage import Stage

PLANNED = tuple(each.name for each in fields(Pruner) if each.name != "curves")
"""The settings that a plan follows from."""


@dataclass(frozen=True)
class Round:
    """One cut of several: the share of the trained model that is gone after it, and its files."""

    number: int
    share: float
    plan: str
    weights: str
    before: Round | None


def rounds(settings: Pruner) -> Round:
    """The last of the rounds, each of which leaves the same share of what it is given."""
    count = settings.rounds if settings.level == "budget" else 1
    each = None
    for number in range(1, count):
        share = 1 - (1 - settings.share) ** (number / count)
        each = Round(number, share, f"plan_{number}.json", f"pruned_{number}.safetensors", each)
    return Round(count, settings.share, "plan.json", "pruned.safetensors", each)


class Cutting(Stage):
    """The plan and the smaller model."""

    name: ClassVar[str] = "prune"
    slot: ClassVar[str | None] = "prune"

    def __init__(self, explained: Explaining) -> None:
        super().__init__(explained.settings, explained.log, explained.given)
        self.trained, self.explained = explained.trained, explained
        self.last = rounds(self.settings.prune)

    def tell(self) -> None:
        """Say what is gone, and why the rest stays."""
        plan = self.plan
        cuts = plan.layers.values()
        if plan.score:
            self.say(f"neurons are ranked by {plan.score}")
        else:
            proposed, stay = sum(cut.proposed for cut in cuts), sum(cut.refuted for cut in cuts)
            self.say(
                f"{proposed:,} silent neurons were proposed; {stay:,} are needed elsewhere and stay"
            )
        for name, cut in plan.layers.items():
            if cut.stays:
                share = "one" if cut.constants else "all"
                self.say(f"{name} keeps {share} of its neurons: {cut.stays}")
            if cut.tied:
                self.say(
                    f"{name} keeps {cut.tied:,} neurons that are constant: what reads them does "
                    "more than weigh and add them"
                )
        self.say(f"{plan.dropped:,} of {plan.units:,} neurons are gone (level {plan.level})")
        if self._exhausted:
            asked = self.settings.prune
            self.say(
                f"no more can go: each layer that may be cut keeps one neuron, though prune.share "
                f"asks for {asked.share:.0%} of the {asked.budget_unit}"
            )

    @property
    def _exhausted(self) -> bool:
        """Whether a budget over all layers has taken all that it may."""
        asked, cuts = self.settings.prune, self.plan.layers.values()
        over_all = (
            asked.level == "budget"
            and asked.budget_unit != "layer"
            and asked.max_metric_drop is None
        )
        return over_all and bool(cuts) and all(len(cut.kept) == 1 or cut.stays for cut in cuts)

    @cached_property
    def plan(self) -> PrunePlan:
        """Which neurons go, over all rounds."""
        self._forget_other_rounds()
        return self._planned(self.last)

    @cached_property
    def weights(self) -> Weights:
        """The weights of the smaller model."""
        return self._left(self.last)

    @cached_property
    def measures(self) -> Measures:
        """The loss, the cost and the quality that a budget may ask for."""
        dataset, settings = self.trained.dataset, self.settings
        metric = settings.trainer.monitors(dataset, settings.objective)

        def value(model: Recommender) -> float:
            return as_higher_is_better(
                metric, quality(model, dataset, "val")[metric.removeprefix("val/")]
            )

        best = value(self.trained.model) if settings.prune.max_metric_drop is not None else 0.0
        return Measures(
            loss=settings.objective.of(dataset),
            flops=lambda model: flops(model, dataset.validation.batch),
            metric_drop=lambda model: best - value(model),
        )

    def _planned(self, each: Round) -> PrunePlan:
        """The plan of a round and of those before it."""
        self.explained.neurons  # noqa: B018  made first: it is one of the inputs
        inputs = ["weights.safetensors", "neurons.parquet"]
        doing = "choosing the neurons that go"
        if each.before is not None:
            self._left(each.before)
            inputs += [each.before.plan, each.before.weights]
            doing += f", round {each.number} of {self.last.number}"
        return self.once(
            each.plan,
            PrunePlan,
            lambda: self._plan(each),
            inputs=inputs,
            doing=doing,
            needs=PLANNED,
        )

    def _plan(self, each: Round) -> PrunePlan:
        trained, seed = self.trained, self.settings.seed
        settings = replace(self.settings.prune, share=each.share)
        model, scores = self._given_to(each)
        found = settings.plan(
            model, scores, trained.dataset,
            seed=seed, measures=self.measures, reference_model=trained.model,
        )  # fmt: skip
        found = replace(found, finetuned=settings.level == "budget" and settings.epochs > 0)
        return found if each.before is None else combine_plans(self._planned(each.before), found)

    def _given_to(self, each: Round) -> tuple[Recommender, pd.DataFrame]:
        """The model that a round cuts, and the scores of its neurons."""
        trained = self.trained
        if each.before is None:
            return trained.exact, self.explained.neurons
        model = trained.loaded(self._left(each.before), each.before.weights)
        explainer = trained.explain.build_explainer(model, trained.dataset, self.settings.seed)
        return model, neuron_scores(explainer)

    def _left(self, each: Round) -> Weights:
        """The weights of what a round leaves, trained on if that is asked."""
        plan = self._planned(each)
        inputs = ["weights.safetensors", each.plan]
        if not plan.finetuned:
            cut = self.settings.prune.prune
            make = lambda: self._of_origin(cut(self.trained.exact, plan))  # noqa: E731
            return self.once(each.weights, Weights, make, inputs=inputs, needs=())
        if each.before is not None:
            inputs.append(each.before.weights)
        return self.once(
            each.weights,
            Weights,
            lambda: self._tuned(each, plan, inputs),
            inputs=inputs,
            doing=f"training what is left for {self.settings.prune.epochs} epochs",
            needs=["epochs"],
        )

    def _tuned(self, each: Round, plan: PrunePlan, inputs: list[str]) -> Weights:
        """The best epoch of training on from what the plan leaves."""
        trained = self.trained
        model = trained.exact
        if each.before is not None:
            model = trained.loaded(self._left(each.before), each.before.weights)
        small = apply_plan(model, plan).float().train()
        trainer = replace(self.settings.trainer, max_epochs=self.settings.prune.epochs)
        folder = self.parts(each.weights, inputs, ["epochs"])
        origin = self.run.sha256_of(each.plan)
        found = trained.fit(small, trainer, folder, origin, lambda _: None, started=True)
        return self._of_origin(Weights(found.weights))

    def _of_origin(self, weights: Weights) -> Weights:
        """The weights with the origin of those that were cut."""
        return replace(weights, origin=self.trained.weights.origin)

    def _forget_other_rounds(self) -> None:
        """Those of settings with more rounds than these."""
        asked, each = set(), self.last.before
        while each is not None:
            asked.add(each.plan)
            each = each.before
        for file in self.run.dir.glob("plan_*.json"):
            if file.name not in asked:
                self.run.forget(file.name)

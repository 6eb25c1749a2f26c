"""Prune: what is cut, the smaller model, and what the cut changed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from glassrec.artifacts import Certificate, PrunePlan, Table, Text, Weights
from glassrec.evaluate.cost import cost, flops
from glassrec.evaluate.quality import headline, quality
from glassrec.explain.tables import neuron_scores
from glassrec.models.base import Recommender
from glassrec.prune.budget import Measures
from glassrec.prune.plan import joined
from glassrec.prune.stage import Prune
from glassrec.prune.surgery import carried_out
from glassrec.prune.wording import text
from glassrec.report.curves import pruning_curves
from glassrec.report.reading import reading
from glassrec.stages.explain import Explaining
from glassrec.stages.stage import Stage
from glassrec.training.settings import merit

PLANNED = tuple(each.name for each in fields(Prune) if each.name != "curves")
"""The settings that a plan follows from."""


@dataclass(frozen=True)
class Round:
    """One cut of several: the files of its plan, of what is left, and of what it starts from."""

    number: int
    share: float
    """of the trained model, that is gone after it"""
    plan: str
    weights: str
    before: str


def rounds(settings: Prune) -> list[Round]:
    """The rounds; each leaves the same share of what the one before has left."""
    count = settings.rounds if settings.level == "budget" else 1
    found, before = [], "weights.safetensors"
    for number in range(1, count + 1):
        last = number == count
        plan = "plan.json" if last else f"plan_{number}.json"
        weights = "pruned.safetensors" if last else f"pruned_{number}.safetensors"
        share = settings.share if last else 1 - (1 - settings.share) ** (number / count)
        found.append(Round(number, share, plan, weights, before))
        before = weights
    return found


CERTIFIED = ("weights.safetensors", "plan.json", "pruned.safetensors")
"""The files that a certificate is about."""


class Pruning(Stage):
    """The cut and its certificate."""

    name: ClassVar[str] = "prune"
    slot: ClassVar[str | None] = "prune"

    def __init__(self, explained: Explaining) -> None:
        super().__init__(explained.settings, explained.log, explained.given)
        self.trained, self.explained = explained.trained, explained
        self.rounds = rounds(self.settings.prune)

    def tell(self) -> None:
        """Cut the neurons that do nothing, or the least, and certify what that changed."""
        plan, certificate = self.plan, self.certificate
        self.certificate_text  # noqa: B018  made beside it
        self._tell_curves()
        rows = sum(certificate.rows.values())
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
                self.say(f"{name} keeps all of its neurons: {cut.stays}")
        self.say(f"{plan.dropped:,} of {plan.units:,} neurons are gone (level {plan.level})")
        largest = certificate.max_abs_logit_difference
        self.say(f"largest difference of a logit on all {rows:,} rows: {largest:.1e}")

    def _tell_curves(self) -> None:
        if self.settings.prune.curves is None:
            self.run.forget("pruning_curves.parquet")
            return
        frame = self.curves.frame
        metric = next(name for name in map(str, frame) if name.startswith("test/"))
        inputs = ["pruning_curves.parquet"]
        self.figure("pruning_curves", inputs, lambda: pruning_curves(frame, metric))
        for sentence in reading(frame, metric)[:2]:
            self.say(sentence)

    @cached_property
    def plan(self) -> PrunePlan:
        """Which neurons go, over all rounds."""
        asked = [each.plan for each in self.rounds]
        for file in sorted(self.run.dir.glob("plan_*.json")):
            if file.name not in asked:
                self.run.forget(file.name)
        return self._planned(self.rounds[-1])

    @cached_property
    def weights(self) -> Weights:
        """The weights of the smaller model."""
        return self._left(self.rounds[-1])

    def _planned(self, each: Round) -> PrunePlan:
        """The plan of a round and of those before it."""
        inputs = ["weights.safetensors", "neurons.parquet"]
        if each.number > 1:
            earlier = self.rounds[each.number - 2]
            self._left(earlier)
            inputs += [earlier.plan, earlier.weights]
        else:
            self.explained.neurons  # noqa: B018  made first: it is one of the inputs
        doing = f"round {each.number} of {len(self.rounds)}: " if len(self.rounds) > 1 else ""
        return self.once(
            each.plan,
            PrunePlan,
            lambda: self._plan(each),
            inputs=inputs,
            doing=f"{doing}choosing the neurons that go",
            needs=PLANNED,
        )

    def _plan(self, each: Round) -> PrunePlan:
        trained = self.trained
        settings = replace(self.settings.prune, share=each.share)
        model, scores = trained.model, self.explained.neurons
        if each.number > 1:
            earlier = self.rounds[each.number - 2]
            model = trained.loaded(self._left(earlier), earlier.weights)
            seed = self.settings.seed
            scores = neuron_scores(trained.explain.of(model, trained.dataset, seed))
        found = settings.plan(
            model, scores, trained.dataset,
            seed=self.settings.seed, measures=self._measures(), whole=trained.model,
        )  # fmt: skip
        found = replace(found, finetuned=settings.level == "budget" and settings.epochs > 0)
        return found if each.number == 1 else joined(self._planned(earlier), found)

    def _left(self, each: Round) -> Weights:
        """The weights of what a round leaves, trained on if that is asked."""
        plan = self._planned(each)
        return self.once(
            each.weights,
            Weights,
            lambda: self._tuned(each, plan) if plan.finetuned else self._cut(plan),
            inputs=["weights.safetensors", each.plan, *([each.before] if plan.finetuned else [])],
            needs=["epochs"] if plan.finetuned else (),
        )

    def _cut(self, plan: PrunePlan) -> Weights:
        return self.settings.prune.cut(self.trained.model, plan)

    def _tuned(self, each: Round, plan: PrunePlan) -> Weights:
        """Trained on from what the plan leaves, and the best epoch of that kept."""
        trained, epochs = self.trained, self.settings.prune.epochs
        model = trained.model
        if each.number > 1:
            model = trained.loaded(self._left(self.rounds[each.number - 2]), each.before)
        small = carried_out(model, plan).float()
        inputs = ["weights.safetensors", each.plan, each.before]
        folder = self.parts(each.weights, inputs, ["epochs"])
        origin = self.run.sha256_of(each.plan)
        trainer = replace(self.settings.trainer, max_epochs=epochs)
        tuned = trained.fit(small.train(), trainer, folder, origin, lambda _: None)
        return Weights(tuned.weights)

    def _measures(self) -> Measures:
        """The loss, the cost and the quality that a budget may ask for."""
        dataset, settings = self.trained.dataset, self.settings
        metric = settings.trainer.monitors(dataset, settings.objective)

        def value(model: Recommender) -> float:
            return merit(metric, quality(model, dataset, "val")[metric.removeprefix("val/")])

        best = value(self.trained.model) if settings.prune.within is not None else 0.0
        return Measures(
            loss=settings.objective.of(dataset),
            flops=lambda model: flops(model, dataset.validation.batch),
            lost=lambda model: best - value(model),
        )

    @cached_property
    def curves(self) -> Table:
        """Quality against the share that is cut, for each score, on the test split."""
        trained, prune, curves = self.trained, self.settings.prune, self.settings.prune.curves
        assert curves is not None, "asked for only if there are any"

        def make() -> Table:
            loss = self._measures().loss
            evidence = prune.evidence(
                trained.model, self.explained.neurons, trained.dataset, self.settings.seed, loss
            )
            return Table(curves.of(evidence, self._cost_and_quality, self._tune))

        return self.once(
            "pruning_curves.parquet",
            Table,
            make,
            inputs=["weights.safetensors", "neurons.parquet"],
            doing="cutting by each score, and measuring what is left",
            needs=["curves", "layers", "rows", "chunk"],
        )

    def _cost_and_quality(self, model: Recommender) -> dict[str, float]:
        dataset = self.trained.dataset
        metrics = quality(model, dataset, "test")
        costs = cost(model, model.state_dict(), dataset.test.batch)
        return costs | {f"test/{name}": metrics[name] for name in headline(metrics)}

    def _tune(self, small: Recommender, epochs: int) -> Recommender:
        trainer = replace(self.settings.trainer, max_epochs=epochs)
        with TemporaryDirectory(dir=self.run.dir) as folder:
            self.trained.fit(small.train(), trainer, Path(folder), "", lambda _: None, quiet=True)
        return small.eval()

    @cached_property
    def certificate(self) -> Certificate:
        """What the cut changed."""
        plan, pruned, trained = self.plan, self.weights, self.trained
        return self.once(
            "certificate.json",
            Certificate,
            lambda: self.settings.prune.certify(
                trained.model,
                pruned,
                plan,
                trained.dataset,
                files={name: self.run.sha256_of(name) for name in CERTIFIED},
                given=self.given,
            ),
            inputs=CERTIFIED,
            doing="comparing both models on all rows",
            needs=(),
        )

    @cached_property
    def certificate_text(self) -> str:
        """The certificate for people."""
        certificate = self.certificate
        return self.once(
            "certificate.md",
            Text,
            lambda: Text(text(certificate)),
            inputs=["certificate.json"],
            needs=(),
        ).text

    @cached_property
    def model(self) -> Recommender:
        """The smaller model, on the trainer's device."""
        return self.trained.loaded(self.weights, "pruned.safetensors")

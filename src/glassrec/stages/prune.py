"""Pruner: what is cut, the smaller model, and what the cut changed."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from glassrec.artifacts import Certificate, PrunePlan, Text, Weights
from glassrec.models.base import Recommender
from glassrec.prune.certificate_text import text
from glassrec.stages import tracked
from glassrec.stages.curves import Curving
from glassrec.stages.explain import Explaining
from glassrec.stages.rounds import Cutting
from glassrec.stages.stage import Stage

CERTIFIED = ("weights.safetensors", "plan.json", "pruned.safetensors")
"""The files that a certificate is about."""


class Pruning(Stage):
    """The cut and its certificate."""

    name: ClassVar[str] = "prune"
    slot: ClassVar[str | None] = "prune"

    def __init__(self, explained: Explaining) -> None:
        super().__init__(explained.settings, explained.log, explained.given)
        self.trained, self.explained = explained.trained, explained
        self.cutting = Cutting(explained)
        self.curves = Curving(self.cutting)

    def tell(self) -> None:
        """Cut the neurons that do nothing, or the least, and certify what that changed."""
        certificate = self.certificate
        self.certificate_text  # noqa: B018  made beside it
        self.curves.tell()
        self.cutting.tell()
        rows, largest = sum(certificate.rows.values()), certificate.max_abs_logit_difference
        self.say(f"largest difference of a logit on all {rows:,} rows: {largest:.1e}")
        tracked.cut(self)

    @property
    def plan(self) -> PrunePlan:
        """Which neurons go."""
        return self.cutting.plan

    @property
    def weights(self) -> Weights:
        """The weights of the smaller model."""
        return self.cutting.weights

    @cached_property
    def certificate(self) -> Certificate:
        """What the cut changed."""
        plan, pruned, trained = self.plan, self.weights, self.trained
        return self.once(
            "certificate.json",
            Certificate,
            lambda: self.settings.prune.certify(
                trained.exact,
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

"""Curves: quality against the share of the units that is cut, each score beside its controls."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from glassrec.artifacts import Table
from glassrec.metrics.cost import cost
from glassrec.metrics.metadata import primary_metrics
from glassrec.metrics.quality import quality
from glassrec.models.base import Recommender
from glassrec.report.model_figures import pruning_curves
from glassrec.report.statements import curve_metric, pruning_statements
from glassrec.stages import tracked
from glassrec.stages.rounds import Cutting
from glassrec.stages.stage import Stage

FILE = "pruning_curves.parquet"

INPUTS = ["weights.safetensors", "neurons.parquet"]

NEEDS = ["curves", "layers", "rows", "chunk"]
"""The settings that the curves follow from."""


class Curving(Stage):
    """What other shares and scores would leave of the validation metrics.

    Curves invite a choice, and what is chosen on the test split looks better than it is.
    """

    name: ClassVar[str] = "prune"
    slot: ClassVar[str | None] = "prune"

    def __init__(self, cutting: Cutting) -> None:
        super().__init__(cutting.settings, cutting.log, cutting.given)
        self.cutting, self.trained = cutting, cutting.trained

    def tell(self) -> None:
        """Draw the curves and read them, where they are asked for."""
        if self.settings.prune.curves is None:
            self.run.forget(FILE)
            return
        frame = self.table.frame
        metric = curve_metric(frame)
        statements = pruning_statements(frame, metric)
        self.figure("pruning_curves", [FILE], lambda: pruning_curves(frame, metric, statements[0]))
        for statement in statements[:2]:
            self.say(statement)
        tracked.pruning_curves(self)

    @cached_property
    def table(self) -> Table:
        """One row a cut."""
        scores = self.cutting.explained.neurons
        trained, prune, curves = self.trained, self.settings.prune, self.settings.prune.curves
        assert curves is not None, "asked for only if there are any"

        def make() -> Table:
            evidence = prune.calibration(
                trained.model, scores, trained.dataset,
                self.settings.seed, self.cutting.measures.loss,
            )  # fmt: skip
            return Table(curves.compute(evidence, self._measured, self._tuned))

        return self.once(
            FILE,
            Table,
            make,
            inputs=INPUTS,
            doing="cutting by each score, and measuring what is left",
            needs=NEEDS,
        )

    def _measured(self, model: Recommender) -> dict[str, float]:
        dataset = self.trained.dataset
        metrics = quality(model, dataset, "val")
        costs = cost(model, model.state_dict(), dataset.validation.batch)
        return costs | {f"val/{name}": metrics[name] for name in primary_metrics(metrics)}

    def _tuned(self, small: Recommender, epochs: int) -> Recommender:
        trainer = replace(self.settings.trainer, max_epochs=epochs)
        device = small.device
        # Among the parts, so that what a killed process leaves goes once the table is made.
        with TemporaryDirectory(dir=self.parts(FILE, INPUTS, NEEDS)) as folder:
            self.trained.fit(
                small.train(), trainer, Path(folder), "", lambda _: None, started=True, quiet=True
            )
        return small.to(device).eval()  # training leaves it on the processor

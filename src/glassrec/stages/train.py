"""Train: the data, and the model at its best epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from glassrec.artifacts import Candidates, Facts, Table, Weights
from glassrec.data.dataset import Dataset, Split
from glassrec.data.facts import anomalies, facts, repeats_line
from glassrec.evaluate.quality import quality
from glassrec.explain.stage import Explain
from glassrec.failures import memory_needed
from glassrec.models.base import Recommender
from glassrec.report.learning import learning_curve
from glassrec.run import experiment, key_of
from glassrec.stages import tracked
from glassrec.stages.stage import Stage
from glassrec.stages.start import start_file, start_weights
from glassrec.tracking import Log
from glassrec.training.memory import needed
from glassrec.training.trainer import CHECKPOINT, Trained, Trainer

if TYPE_CHECKING:
    from glassrec.pipeline import Pipeline

OnEpoch = Callable[[Mapping[str, float]], None]


class Training(Stage):
    """The trained model, and the data that it was trained on."""

    name: ClassVar[str] = "train"

    def __init__(
        self, settings: Pipeline, log: Log, given: dict[str, Any], watch: OnEpoch | None = None
    ) -> None:
        super().__init__(settings, log, given)
        self.watch = watch

    def tell(self) -> None:
        """Train, or go on where a killed run stopped; keep the best epoch."""
        tracked.data(self)
        for line in (*anomalies(self.facts), *self.repeats):
            print(f"data      {line}", flush=True)
        epochs, size = len(self.history.frame), self.weights.bytes / 2**20
        about = self.facts
        if epochs:
            history, monitor = self.history.frame, about["monitor"]
            self.figure(
                "learning_curve",
                ["history.csv", "data.json"],
                lambda: learning_curve(history, monitor),
            )
        (self.run.dir / CHECKPOINT).unlink(missing_ok=True)
        kept = "the best on validation are kept" if epochs else "nothing is trained"
        self.say(f"{epochs} epochs, {size:.1f} MiB of weights; {kept}")
        tracked.checkpoint(self)

    @cached_property
    def dataset(self) -> Dataset:
        """The data, with the evaluation candidates that were stored when it was first loaded."""
        print("loading the data ...", flush=True)
        rows = (
            "data.rows" if "rows" in self.run.config["data"] else "the number of rows of the data"
        )
        with memory_needed("loading the data", rows):
            dataset = self.settings.data.load(self.settings.seed)
        if not dataset.ranked:
            return dataset
        lists = self.once("candidates.safetensors", Candidates, lambda: _candidates(dataset))
        return replace(
            dataset,
            validation=_with_candidates(dataset.validation, lists, "val"),
            test=_with_candidates(dataset.test, lists, "test"),
        )

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is in the data, and by which metric of the validation split epochs are chosen."""
        return self.once("data.json", Facts, lambda: Facts(self._facts())).values

    def _facts(self) -> dict[str, Any]:
        dataset, settings = self.dataset, self.settings
        return facts(dataset) | {"monitor": settings.trainer.monitors(dataset, settings.objective)}

    @property
    def repeats(self) -> list[str]:
        """A line about held-out positives that their users have in training; none if there are no
        such.
        """
        line, policy = repeats_line(self.facts), self.run.config["data"].get("repeats")
        hint = "; with data.repeats=drop all are new" if policy == "keep" else ""
        return [] if line is None else [line + hint]

    @cached_property
    def explain(self) -> Explain:
        """How to explain: the first task that is learnt, where none is named."""
        explain, targets = self.settings.explain, self.dataset.schema.targets
        return replace(explain, task=explain.task or self.settings.objective.first(targets).name)

    @cached_property
    def trained(self) -> Trained:
        """The outcome of training, or of the rest of a training that was killed."""
        self.run.describe(self.given["data"])
        settings, model = self.settings, self._first_model()
        self.explain.of(model, self.dataset, settings.seed).check()
        settings.prune.stays(model)  # complains of its layers
        model.train()  # who explains it has put it into evaluation mode
        if settings.trainer.max_epochs:
            self._tell_memory(model)
        origin = key_of({"experiment": experiment(self.run.config), "given": self.given})
        return self.fit(model, settings.trainer, self.run.dir, origin, self._after_epoch)

    def fit(
        self,
        model: Recommender,
        trainer: Trainer,
        directory: Path,
        origin: str,
        on_epoch: OnEpoch,
        *,
        quiet: bool = False,
    ) -> Trained:
        """Train a model as the settings say, but for those of the trainer."""
        settings = self.settings
        return trainer.fit(
            model,
            self.dataset,
            settings.optimizer,
            table_optimizer=settings.table_optimizer,
            seed=settings.seed,
            directory=directory,
            origin=origin,
            objective=settings.objective,
            validate=partial(quality, name="val"),
            on_epoch=on_epoch,
            quiet=quiet,
            lock=self.run.lock,
        )

    def _after_epoch(self, row: Mapping[str, float]) -> None:
        self.log.epoch(row)
        if self.watch is not None:
            self.watch(row)

    def _tell_memory(self, model: Recommender) -> None:
        settings = self.settings
        optimizers = settings.optimizer, settings.table_optimizer
        resumes = (self.run.dir / CHECKPOINT).is_file()
        told = needed(settings.trainer, model, self.dataset, *optimizers, resumes=resumes)
        print(f"memory    {told}", flush=True)

    @cached_property
    def history(self) -> Table:
        """One row an epoch."""
        return self.once("history.csv", Table, lambda: Table(self.trained.history))

    @cached_property
    def weights(self) -> Weights:
        """The weights of the epoch that was best on the validation split."""
        return self.once("weights.safetensors", Weights, self._best)

    def _best(self) -> Weights:
        """Where nothing is trained, the very numbers of the start: its float64 ones were proven."""
        trained, start = self.trained, self.settings.start
        if start is not None and self.settings.trainer.max_epochs == 0:
            return start_weights(start_file(start))
        return Weights(trained.weights)

    @cached_property
    def model(self) -> Recommender:
        """The model as trained, on the trainer's device."""
        return self.loaded(self.weights, "weights.safetensors")

    @cached_property
    def exact(self) -> Recommender:
        """The model as trained in float64, with the very numbers of the file, for proofs.

        It is on the trainer's device, or on the processor where that device has no float64.
        """
        model = self._new_model().double()
        model.load(self.weights.tensors, str(self.run.dir / "weights.safetensors"))
        device = self.settings.trainer.device
        return model.to("cpu" if device.type == "mps" else device).eval()

    def loaded(self, weights: Weights, name: str) -> Recommender:
        """The model with other weights, those of a pruned one too."""
        model = self._new_model()
        model.load(weights.tensors, str(self.run.dir / name))
        return model.to(self.settings.trainer.device).eval()

    def _first_model(self) -> Recommender:
        """What training begins with: a new model, or the one that it is to start from."""
        model, start = self._new_model(), self.settings.start
        if start is not None:
            file = start_file(start)
            print(f"start     {file}", flush=True)
            model.load(start_weights(file).tensors, str(file))
        return model

    def _new_model(self) -> Recommender:
        """The model with its first weights; they depend on the seed alone."""
        torch.manual_seed(self.settings.seed)
        return self.settings.model(self.dataset.schema)


def _candidates(dataset: Dataset) -> Candidates:
    lists = {n: s for n, s in dataset.splits.items() if s.query is not None}
    return Candidates(
        {name: split.batch.ids for name, split in lists.items()},
        {name: split.query for name, split in lists.items() if split.query is not None},
        {n: s.batch.dense for n, s in lists.items()} if dataset.schema.item_dense else {},
    )


def _with_candidates(split: Split, lists: Candidates, name: str) -> Split:
    dense = lists.dense.get(name, split.batch.dense)
    return Split(split.batch._replace(ids=lists.ids[name], dense=dense), lists.query[name])

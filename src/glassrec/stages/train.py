"""Train: the data, and the model at its best epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pandas as pd
import torch

from glassrec import __version__
from glassrec.artifacts import Candidates, Facts, Table, Weights
from glassrec.config.aliases import original
from glassrec.data.dataset import Dataset, Split
from glassrec.data.dataset_metadata import anomaly_lines, collect_metadata, repeats_line
from glassrec.data.encoding import Encoder, Scaler
from glassrec.data.saved_encoder import describe_encoder, vocabulary_table
from glassrec.ending import UsageError
from glassrec.explain.explainer import Explain
from glassrec.failures import memory_needed
from glassrec.metrics.quality import quality
from glassrec.models.base import Recommender
from glassrec.report.model_figures import learning_curve
from glassrec.run import displayed, experiment, flat, is_path, key_of
from glassrec.stages import tracked
from glassrec.stages.stage import Stage
from glassrec.stages.start import ENCODER, ROWS, VALUES, Start, start_file, with_start
from glassrec.tracking import Log
from glassrec.training.memory import needed
from glassrec.training.trainer import CHECKPOINT, Trained, Trainer

if TYPE_CHECKING:
    from glassrec.pipeline import Pipeline

T = TypeVar("T")

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
        self._store_encoder()
        tracked.data(self)
        for line in (*anomaly_lines(self.facts), *self.repeats):
            print(f"data      {line}", flush=True)
        epochs, size = self.epochs, self.weights.bytes / 2**20
        about = self.facts
        if epochs:
            history, monitor = self.history.frame, about["monitor"]
            self.figure(
                "learning_curve",
                ["history.csv", "data.json"],
                lambda: learning_curve(history, monitor),
            )
        (self.run.dir / CHECKPOINT).unlink(missing_ok=True)
        self.run.restore_provenance(self.given["data"])
        kept = "the best on validation are kept" if epochs else "nothing is trained"
        self.say(f"{epochs} epochs, {size:.1f} MiB of weights; {kept}")
        tracked.checkpoint(self)

    @cached_property
    def dataset(self) -> Dataset:
        """The data, with the evaluation candidates that were stored when it was first loaded."""
        dataset = self._checked_dataset()
        if not dataset.ranked:
            return dataset
        lists = self.once("candidates.safetensors", Candidates, lambda: candidates(dataset))
        return replace(
            dataset,
            validation=_with_candidates(dataset.validation, lists, "val"),
            test=_with_candidates(dataset.test, lists, "test"),
        )

    def _checked_dataset(self) -> Dataset:
        """The data, loaded and found to suit the weights that training starts from, if any."""
        settings, starts = self.settings, self.starts
        if "weights.safetensors" in self.run.recorded:
            starts = {}  # they were checked before they were trained
        if "start" in starts:
            starts["start"].check_model(settings.model)
        print("loading the data ...", flush=True)
        rows = (
            "data.rows" if "rows" in self.run.config["data"] else "the number of rows of the data"
        )
        with memory_needed("loading the data", rows):
            dataset = self.load_data()
        if starts and dataset.encoder is not None and dataset.row_keys is not None:
            origin = self._origin(dataset.encoder)
            for start in starts.values():
                start.check_data(dataset.encoder, dataset.row_keys, origin)
        return dataset

    @cached_property
    def starts(self) -> dict[str, Start]:
        """The runs that the weights start from, by the settings that name them."""
        found = {}
        if self.settings.start is not None:
            found["start"] = Start(start_file(self.settings.start))
        for name, value in flat(self.run.config["model"]).items():
            if is_path(value) and Path(value).is_dir():
                setting = f"model.{name}"
                found[setting] = Start(start_file(Path(value), setting), setting)
        if self.settings.start is not None and len(found) > 1:
            raise UsageError(
                f"start: {self.settings.start} cannot be joined with {', '.join([*found][1:])}; "
                "leave one of them out"
            )
        return found

    def load_data(self) -> Dataset:
        """The data as the source gives it, with the scalers of the start, if there is one."""
        scalers = self.start_scalers()
        return self.settings.data.load(self.settings.seed, *([scalers] if scalers else []))

    def start_scalers(self) -> dict[str, Scaler]:
        """Those that the starting weights were trained with; dense columns keep them."""
        encoders = [each.encoder for each in self.starts.values()]
        return dict(encoders[0].scalers) if encoders and encoders[0] is not None else {}

    def _store_encoder(self) -> None:
        """Write down what made tensors of raw values, and which rows are in which split."""
        described = self.once(ENCODER, Facts, lambda: Facts(self._described()))
        if described.values:
            self.once(VALUES, Table, lambda: Table(vocabulary_table(_there(self.dataset.encoder))))
            self.once(ROWS, Table, lambda: Table(self._rows()))

    def _described(self) -> dict[str, Any]:
        encoder = self.dataset.encoder
        return {} if encoder is None else describe_encoder(encoder)

    def _rows(self) -> pd.DataFrame:
        return with_start(_there(self.dataset.row_keys), self.starts)

    @cached_property
    def origin(self) -> dict[str, Any] | None:
        """What the weights are made from, for their file; None if the data has no encoder."""
        encoder = self.dataset.encoder
        return None if encoder is None else self._origin(encoder)

    def _origin(self, encoder: Encoder) -> dict[str, Any]:
        config = displayed(self.run.config, self.run.shown)  # the file may be passed on
        part, starts = experiment(config), self.starts.values()
        described = describe_encoder(encoder)
        known = "known" if all(start.complete for start in starts) else "unknown"
        return {
            "version": __version__,
            "seed": self.settings.seed,
            "data": part["data"],
            "files": self.given["data"],
            "model": part["model"],
            "vocabulary_sha256": described["vocabulary_sha256"],
            "encoder_sha256": described["encoder_sha256"],
            "start": known if starts else None,
        }

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is in the data, and by which metric of the validation split epochs are chosen."""
        return self.once("data.json", Facts, lambda: Facts(self.describe_data())).values

    def describe_data(self) -> dict[str, Any]:
        """The content of `data.json`."""
        dataset, settings = self.dataset, self.settings
        return collect_metadata(dataset) | {
            "monitor": settings.trainer.monitors(dataset, settings.objective)
        }

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
        settings = self.settings
        model, started = self._first_model()
        self.explain.build_explainer(model, self.dataset, settings.seed).check()
        settings.prune.not_prunable_reasons(model)  # complains of its layers
        model.train()  # who explains it has put it into evaluation mode
        if settings.trainer.max_epochs:
            self._tell_memory(model)
        origin = key_of({"experiment": original(experiment(self.run.config)), "given": self.given})
        return self.fit(
            model, settings.trainer, self.run.dir, origin, self._after_epoch, started=started
        )

    def fit(
        self,
        model: Recommender,
        trainer: Trainer,
        directory: Path,
        origin: str,
        on_epoch: OnEpoch,
        *,
        started: bool,
        quiet: bool = False,
    ) -> Trained:
        """Train a model as the settings say, but for those of the trainer.

        `started` says whether its weights are trained already, and so may be the best.
        """
        settings = self.settings
        return trainer.fit(
            model,
            replace(self.dataset, encoder=None, row_keys=None),  # no copies for other devices
            settings.optimizer,
            table_optimizer=settings.table_optimizer,
            seed=settings.seed,
            directory=directory,
            origin=origin,
            objective=settings.objective,
            validate=partial(quality, name="val"),
            on_epoch=on_epoch,
            started=started,
            quiet=quiet,
            lock=self.run.lock,
        )

    def _after_epoch(self, row: Mapping[str, float]) -> None:
        self.log.epoch(row)
        if self.watch is not None and row["epoch"]:
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

    @property
    def epochs(self) -> int:
        """How many epochs were trained; epoch 0, the start, is none."""
        return int(self.history.frame["epoch"].max()) if len(self.history.frame) else 0

    @cached_property
    def weights(self) -> Weights:
        """The weights of the epoch that was best on the validation split."""
        return self.once("weights.safetensors", Weights, self._best)

    def _best(self) -> Weights:
        """Where nothing is trained, the very numbers of the start: its float64 ones were proven."""
        trained, start = self.trained, self.starts.get("start")
        if start is None or self.settings.trainer.max_epochs:
            return Weights(trained.weights, self.origin)
        reads = self._new_model().schema
        return Weights(start.mapped(self.dataset.encoder, reads), self.origin)

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

    def _first_model(self) -> tuple[Recommender, bool]:
        """What training begins with, and whether it is trained already: by the run that it starts
        from, or by those whose weights it joins.
        """
        model, encoder = self._new_model(), self.dataset.encoder
        by_folder = {each.file.parent: each for each in self.starts.values()}
        for start in self.starts.values():
            for line in start.report(encoder):
                print(f"start     {line}", flush=True)
        if self.settings.start is not None:
            self.starts["start"].load(model, encoder)
            return model, True
        taken = model.take_over(lambda part, run: by_folder[Path(run)].load(part, encoder))
        return model, taken

    def _new_model(self) -> Recommender:
        """The model with its first weights; they depend on the seed alone."""
        torch.manual_seed(self.settings.seed)
        return self.settings.model(self.dataset.schema)


def _there(value: T | None) -> T:
    assert value is not None, "data with an encoder has keys of its rows"
    return value


def candidates(dataset: Dataset) -> Candidates:
    """The ranking lists of the evaluation splits, as they were drawn."""
    lists = {n: s for n, s in dataset.splits.items() if s.query is not None}
    return Candidates(
        {name: split.batch.ids for name, split in lists.items()},
        {name: split.query for name, split in lists.items() if split.query is not None},
        {n: s.batch.dense for n, s in lists.items()} if dataset.schema.item_dense else {},
    )


def _with_candidates(split: Split, lists: Candidates, name: str) -> Split:
    dense = lists.dense.get(name, split.batch.dense)
    return Split(split.batch._replace(ids=lists.ids[name], dense=dense), lists.query[name])

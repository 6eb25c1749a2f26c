"""Train: the data and its description, then the model at its best epoch."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from glassrec.aliases import original
from glassrec.artifacts import Facts, StoredTable, Weights, digest
from glassrec.artifacts import file_list as files
from glassrec.data.dataset import Dataset
from glassrec.data.dataset_metadata import collect_metadata
from glassrec.data.encoding import Encoder
from glassrec.data.saved_encoder import describe_encoder, vocabulary_table
from glassrec.metrics.user_metrics import mode
from glassrec.models.base import Recommender
from glassrec.processes import from_first, is_first
from glassrec.run import experiment, key_of
from glassrec.stages.context import Context, TrainedModel
from glassrec.stages.stage_memory import check_memory, stage_memory
from glassrec.stages.start import origin_of, with_start
from glassrec.training.memory import estimate_memory
from glassrec.training.settings import OnEpoch, OnSteps
from glassrec.training.sharding import FOLDER
from glassrec.training.trainer import Trained


@dataclass(frozen=True)
class TrainResult:
    """The outcome of training."""

    history: pd.DataFrame
    """one row for each epoch"""
    trained: TrainedModel

    @property
    def epochs(self) -> int:
        """How many epochs were trained; epoch 0, the start, is none."""
        return int(self.history["epoch"].max()) if len(self.history) else 0


def describe(context: Context) -> dict[str, Any]:
    """Store what makes tensors of raw values, and each row's split; give the facts of the data."""

    def encoder() -> Encoder:
        assert context.dataset.encoder is not None, "it has been described"
        return context.dataset.encoder

    def row_keys() -> pd.DataFrame:
        assert context.dataset.row_keys is not None, "data with an encoder has keys of its rows"
        return with_start(context.dataset.row_keys, context.starts)

    def raw(table: str) -> StoredTable:
        found = getattr(context.dataset.raw, table)
        assert found is not None, "data with an encoder has the raw tables of its roles"
        return StoredTable(found)

    if described := context.once(
        files.ENCODER, lambda: Facts(_described_encoder(context.dataset))
    ).values:
        context.once(files.VOCABULARY, lambda: StoredTable(vocabulary_table(encoder())))
        context.once(files.ROW_KEYS, lambda: StoredTable(row_keys()))
        context.once(files.SAMPLE_ROWS, lambda: raw("samples"))
        if described["roles"]["item"] is not None:
            context.once(files.CATALOGUE, lambda: raw("catalogue"))
            if described["roles"]["user"] is not None:
                context.once(files.INTERACTIONS, lambda: raw("interactions"))
                context.once(files.LAST_ROWS, lambda: raw("last_rows"))
    return context.once(files.DATA, lambda: Facts(description(context))).values


def _described_encoder(dataset: Dataset) -> dict[str, Any]:
    return {} if dataset.encoder is None else describe_encoder(dataset.encoder)


def description(context: Context) -> dict[str, Any]:
    """What is in the data, and by which metric of the validation split epochs are chosen."""
    dataset, settings = context.dataset, context.settings
    if not dataset.labelled:
        return collect_metadata(dataset) | {"monitor": None}
    monitor = settings.trainer.monitored_metric(dataset, settings.objective)
    stated = mode(context.metrics.get(monitor.rpartition("/")[2]))
    lists = {n: s for n, s in dataset.splits.items() if s.query is not None}
    drawn = {
        f"{n} {k}": t
        for n, s in lists.items()
        for k, t in {**s.batch._asdict(), "query": s.query}.items()
    }
    return (
        collect_metadata(dataset)
        | {"monitor": monitor}
        | ({"lists_sha256": digest(drawn)} if drawn else {})
        | ({} if stated is None else {"monitor_mode": stated})
    )


def train(
    context: Context, on_epoch: OnEpoch, on_steps: OnSteps | None = None, last: str = "train"
) -> TrainResult:
    """Train, or continue where a killed run stopped, or a finished one that gets more epochs.

    `on_epoch` may raise `StoppedEarly`; memory is estimated up to the stage `last`.
    """
    training = _Training(context, on_epoch, on_steps, last)
    history = context.once(files.HISTORY, lambda: StoredTable(training.outcome.history)).frame
    weights = context.once(files.WEIGHTS, training.best)
    run = context.writable
    checkpoint = run.dir / files.CHECKPOINT
    if is_first() and checkpoint.is_file():
        shutil.rmtree(run.dir / FOLDER, ignore_errors=True)
        if context.settings.trainer.keep_checkpoint and not context.settings.trainer.shard_table:
            run.adopt(files.FINISHED, checkpoint, context.external)
        checkpoint.unlink(missing_ok=True)
    run.restore_provenance(context.external["data"])
    return TrainResult(history, TrainedModel(context, weights))


@dataclass(frozen=True)
class _Training:
    """One training, of which the history and the weights are stored one after the other."""

    context: Context
    on_epoch: OnEpoch
    on_steps: OnSteps | None
    last: str

    @cached_property
    def outcome(self) -> Trained:
        context, settings, run = self.context, self.context.settings, self.context.writable
        model, started = self._first_model()
        run.describe(context.external["data"], threads=settings.trainer.threads(model))
        context.explain.build_explainer(model, context.dataset, settings.seed).check()
        settings.prune.not_prunable_reasons(model)  # raises for layers that cannot be pruned
        if settings.trainer.max_epochs:
            self._print_memory(model)
        model.train()  # the explainer has put it into evaluation mode
        same = experiment(run.config)
        same["trainer"].pop("max_epochs")  # with more of them the same training goes on
        origin = key_of({"experiment": original(same), "given": context.external})
        return context.fit(
            model, settings.trainer, run.dir, origin, self.on_epoch, started=started,
            on_steps=self.on_steps,
        )  # fmt: skip

    def best(self) -> Weights:
        """Where nothing is trained, the very numbers of the start: its float64 ones were proven."""
        context, outcome, start = self.context, self.outcome, self.context.starts.get("start")
        tensors, encoder = outcome.weights, context.dataset.encoder
        if start is not None and not context.settings.trainer.max_epochs:
            tensors = start.mapped(encoder, context.new_model().schema)
        if encoder is None:
            return Weights(tensors)
        data = context.external["data"]
        return Weights(tensors, origin_of(context.run, data, encoder, context.starts))

    def _first_model(self) -> tuple[Recommender, bool]:
        context = self.context
        model, encoder, starts = context.new_model(), context.dataset.encoder, context.starts
        by_folder = {each.file.parent: each for each in starts.values()}
        for start in starts.values():
            for line in start.report(encoder):
                print(f"start     {line}", flush=True)
        if "start" in starts:
            starts["start"].load(model, encoder)
            return model, True
        joined = model.take_over(lambda part, run: by_folder[Path(run)].load(part, encoder))
        if joined and context.dataset.probabilities:
            from_first(lambda: _compare_probabilities(model, context.dataset))
        return model, joined

    def _print_memory(self, model: Recommender) -> None:
        context, settings = self.context, self.context.settings
        optimizers = settings.optimizer, settings.table_optimizer
        rows = settings.objective.training_rows(context.dataset)
        resumes = (context.run.dir / files.CHECKPOINT).is_file()
        memory = estimate_memory(settings.trainer, model, rows, *optimizers, resumes=resumes)
        print(f"memory    {memory}", flush=True)
        if settings.trainer.device.type == "cpu":
            found = stage_memory(context, model, memory)
            print("memory   ", check_memory(found, memory.parameters, self.last), flush=True)


def _compare_probabilities(model: Recommender, dataset: Dataset, tolerance: float = 1e-4) -> None:
    """ValueError if trained weights do not give the probabilities that the data came with."""
    known = dataset.probabilities or {}
    there = torch.cat([*known.values()])
    here = torch.cat([model.predict(dataset.splits[name].batch).sigmoid() for name in known])
    largest, row = (here - there).abs().amax(1).max(0)
    if not largest <= tolerance:
        raise ValueError(
            f"a row has the probability {there[row, 0]:.6f} in the data, and {here[row, 0]:.6f} by "
            "the weights; are they another model's, or dense values of another scale (data.log)? "
            "To go on, set data.check_probs=false"
        )
    print(f"start     probabilities of {len(there):,} rows are those of the data, to {largest:.1e}")

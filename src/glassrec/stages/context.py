"""What all stages share: the settings, the run, and the data and models, loaded on first use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import torch
from annotated_types import Ge, Lt, MinLen
from pydantic import DirectoryPath, FilePath
from torch.nn import Parameter
from torch.optim import Optimizer

from glassrec.artifacts import Artifact, File, Weights
from glassrec.artifacts.file_list import WEIGHTS
from glassrec.data.dataset import Dataset, Source
from glassrec.data.schema import Schema
from glassrec.data.store import load_dataset
from glassrec.explain.explainer import Explain, Explainer
from glassrec.failures import memory_needed
from glassrec.metrics.cost import cost
from glassrec.metrics.evaluation import DEFAULT, Evaluation
from glassrec.metrics.quality import quality
from glassrec.models.base import Recommender
from glassrec.models.embedding import mapped_tables
from glassrec.prune.precision import to_float64
from glassrec.prune.pruner import Pruner
from glassrec.run import ReadOnlyRun, Run
from glassrec.stages.start import Start, origin_of, starts
from glassrec.tracking import Tracker
from glassrec.tracking.tracker import ENCODED, SWEEP
from glassrec.training.objective import Objective
from glassrec.training.optimizers import LRSchedule
from glassrec.training.settings import OnEpoch, OnSteps
from glassrec.training.trainer import Trained, Trainer

if TYPE_CHECKING:  # it takes seconds to import
    from torchmetrics import Metric

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class PipelineSettings:
    """One experiment. Its fields are the root of the configuration, in the order of `run.yaml`.

    `seeds` is for the command line, which makes a pipeline for each: here it is None. `start` is a
    run directory, or a file of weights: what the model starts from, narrow where it was pruned.
    `figures` is whether to draw them; None draws them outside of sweeps. `cache` is the folder of
    encoded data, see `store.load_dataset`.
    """

    run: ReadOnlyRun
    seed: Annotated[int, Ge(0), Lt(2**63)]
    seeds: Annotated[Sequence[Annotated[int, Ge(0), Lt(2**63)]], MinLen(1)] | None
    figures: bool | None
    cache: Literal["auto"] | Path | None = field(default="auto", kw_only=True)
    start: DirectoryPath | FilePath | None
    data: Source
    model: Callable[[Schema], Recommender]
    objective: Objective
    optimizer: Callable[[Iterable[Parameter]], Optimizer]
    table_optimizer: Callable[[Iterable[Parameter]], Optimizer] | None
    trainer: Trainer
    explain: Explain
    prune: Pruner
    tracker: Tracker
    scheduler: LRSchedule | None = None
    callbacks: Mapping[str, Any] | Sequence[Any] | None = None
    logger: Mapping[str, Any] | Sequence[Any] | None = None
    metrics: Mapping[str, Any] | None = None
    evaluation: Evaluation | None = None

    def __post_init__(self) -> None:
        if self.seeds is not None:
            raise ValueError(f"seeds: {self.seeds} is not allowed; make a pipeline for each")

    @property
    def draws_figures(self) -> bool:
        """Whether figures are drawn: where none were asked for, not in a job of a sweep."""
        return SWEEP not in os.environ if self.figures is None else self.figures


@dataclass(frozen=True)
class Context:
    """A run, and what its stages need; a stage that is up to date loads neither data nor model.

    Args:
        settings: of the experiment.
        external: the hashes of all external inputs: `data` files, weights that the `model` joins,
            and the weights that training starts from (`start`).
        parent: of a cut, the context of its run, whose data it shares.
    """

    settings: PipelineSettings
    external: Mapping[str, Any] = field(default_factory=dict)
    parent: Context | None = None

    @property
    def run(self) -> ReadOnlyRun:
        """The directory."""
        return self.settings.run

    @property
    def writable(self) -> Run:
        """The directory, where files are made."""
        assert isinstance(self.run, Run), "nothing is made in a run that is only read"
        return self.run

    def once(self, file: File[A], make: Callable[[], A], doing: str = "") -> A:
        """The content of a file: as it is there if it is up to date, or else as `make` makes it.

        `doing` is printed before, if `make` takes long.
        """

        def announced() -> A:
            if doing:
                print(f"{doing} ...", flush=True)
            return make()

        return self.run.once(file, announced, self.external)

    def parts(self, file: File[Any]) -> Path:
        """A folder for the parts of a file that takes long; see `Run.parts`."""
        return self.writable.parts(file, self.external)

    @cached_property
    def dataset(self) -> Dataset:
        """The data; rows that the weights of a start were trained on are refused."""
        if self.parent is not None:
            return self.parent.dataset
        begins = {} if self.run.has(WEIGHTS) else self.starts  # others were checked in training
        if "start" in begins:
            begins["start"].check_model(self.settings.model)
        print("loading the data ...", flush=True)
        sized = "rows" in self.run.config["data"]
        with memory_needed(
            "loading the data", "data.rows" if sized else "the number of rows of the data"
        ):
            dataset = self.load_data()
        if begins and dataset.encoder is not None and dataset.row_keys is not None:
            origin = origin_of(self.run, self.external["data"], dataset.encoder, self.starts)
            for start in begins.values():
                start.check_data(dataset.encoder, dataset.row_keys, origin)
        return dataset

    def load_data(self) -> Dataset:
        """The data as the source gives it; dense columns keep the scalers of the start, if any."""
        encoders = [each.encoder for each in self.starts.values()]
        scalers = dict(encoders[0].scalers) if encoders and encoders[0] is not None else {}
        settings, check = self.settings, not isinstance(self.run, Run)
        shared = Path(os.environ[SWEEP], ENCODED) if SWEEP in os.environ else None
        return load_dataset(
            settings.data, settings.seed, scalers, cache=settings.cache, shared=shared, check=check
        )

    @cached_property
    def starts(self) -> dict[str, Start]:
        """The runs that the weights start from, by the settings that name them."""
        return starts(self.settings.start, self.run.config["model"])

    @cached_property
    def explain(self) -> Explain:
        """The settings of the explanation; its task is the first that is learnt, if none is set."""
        explain, targets = self.settings.explain, self.dataset.schema.targets
        return replace(explain, task=explain.task or self.settings.objective.first(targets).name)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The user's own metrics, by name."""
        if not self.settings.metrics:
            return {}
        from glassrec.training.recipe import rebuild

        return dict(rebuild(self.settings.metrics))

    def new_model(self) -> Recommender:
        """The model with its first weights, which depend on the seed alone."""
        torch.manual_seed(self.settings.seed)
        folder = self.run.dir if self.settings.trainer.shard_table else None
        with mapped_tables(folder):
            return self.settings.model(self.dataset.schema)

    def load_model(
        self, weights: Weights, file: File[Weights], *, float64: bool = False
    ) -> Recommender:
        """The model with these weights, of the large or of a pruned one, on the trainer's device.

        `file` is named in errors. In `float64` it computes with the very numbers of the file, on
        the CPU where the device has no float64. On the CPU the table is that of `weights`.
        """
        model = self.new_model()
        model.load(weights.tensors, str(self.run.dir / file.name), share_table=True)
        device = self.settings.trainer.device
        model = model.to("cpu" if float64 and device.type == "mps" else device)
        return (to_float64(model) if float64 else model.float()).eval()

    def quality_and_cost(self, model: Recommender, weights: Weights) -> dict[str, float]:
        """The metrics of a model on validation and test, and its size and FLOPs."""
        values = cost(model, weights.tensors, self.dataset.test.batch)
        for name in ("val", "test"):
            more: dict[str, Any] = {
                "own": self.metrics,
                "further": self.settings.evaluation or DEFAULT,
            }
            found = quality(model, self.dataset, name, groups=True, **more)
            values |= {f"{name}/{metric}": value for metric, value in found.items()}
        return values

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
        on_steps: OnSteps | None = None,
    ) -> Trained:
        """Train a model with the optimizers and the objective of the settings.

        `started` is whether its first weights are trained, and may so be the best.
        """
        settings = self.settings
        return trainer.fit(
            model,
            replace(
                self.dataset, encoder=None, row_keys=None, raw=None
            ),  # no copies for other devices
            settings.optimizer,
            table_optimizer=settings.table_optimizer,
            seed=settings.seed,
            directory=directory,
            origin=origin,
            objective=settings.objective,
            scheduler=settings.scheduler,
            metrics=self.metrics,
            callbacks=settings.callbacks,
            logger=settings.logger,
            on_epoch=on_epoch,
            on_steps=on_steps,
            started=started,
            quiet=quiet,
            lock=self.writable.lock,
        )


@dataclass(frozen=True)
class TrainedModel:
    """The weights of the best epoch; models of them are built on first use."""

    context: Context
    weights: Weights

    @cached_property
    def model(self) -> Recommender:
        """On the trainer's device."""
        return self.context.load_model(self.weights, WEIGHTS)

    @cached_property
    def reference_model(self) -> Recommender:
        """In float64, for proofs."""
        return self.context.load_model(self.weights, WEIGHTS, float64=True)

    @cached_property
    def quality_and_cost(self) -> dict[str, float]:
        """The metrics as trained, which all cuts are compared with."""
        return self.context.quality_and_cost(self.model, self.weights)

    @cached_property
    def explainer(self) -> Explainer:
        """Explains the selected rows; ValueError if the settings do not fit the model."""
        explainer = self.explained_by(self.context.explain)
        explainer.check()
        return explainer

    def explained_by(self, explain: Explain) -> Explainer:
        """An explainer with other settings."""
        return explain.build_explainer(self.model, self.context.dataset, self.context.settings.seed)

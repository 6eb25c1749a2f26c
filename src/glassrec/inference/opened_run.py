"""A finished run, opened from its directory alone: no data file is read, and nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import torch

from glassrec.artifacts import Explanation, File, Weights
from glassrec.artifacts.file_list import (
    BASELINE,
    CATALOGUE,
    ENCODER,
    EXPLANATION,
    INTERACTIONS,
    LAST_ROWS,
    PRUNED,
    VOCABULARY,
    WEIGHTS,
)
from glassrec.config.build import build_node
from glassrec.config.finished_run import finished_config
from glassrec.data.batch import Batch
from glassrec.data.columns import Columns
from glassrec.data.dataset import Dataset, Split
from glassrec.data.encoding import Encoder
from glassrec.data.saved_encoder import restore_encoder
from glassrec.data.schema import Schema
from glassrec.explain.explainer import Explain, Explainer
from glassrec.explain.methods import Method
from glassrec.explain.selection import Selection
from glassrec.inference.users_and_items import Interactions, Items, LastRows
from glassrec.models.base import Inputs, Recommender
from glassrec.run import ReadOnlyRun

ModelName = Literal["trained", "pruned"]


@dataclass(frozen=True)
class OpenedRun:
    """A finished run. Each file is read on first use and checked against the record's sha256.

    Every property raises ValueError, with the stage that makes it, if a file is missing, and if it
    is not the one that the run wrote.

    `run.model.predict(next(read_rows(run, "new.csv")).batch)` scores the rows of a file.
    """

    run: ReadOnlyRun

    @classmethod
    def open(cls, directory: Path | str, trusted: Sequence[str] = ()) -> Self:
        """The run in a directory.

        Args:
            directory: of one run.
            trusted: import paths of classes of your own in the working directory that the run uses;
                nothing else there is imported.

        Raises:
            ConfigError: the directory holds no run, its settings were changed, or they name a class
                that is neither installed nor trusted.
        """
        path = Path(directory).expanduser().absolute()
        return cls(ReadOnlyRun(path, finished_config(path, trusted)))

    @cached_property
    def encoder(self) -> Encoder:
        """Makes tensors of raw rows."""
        described = self.run.read(ENCODER).values
        if not described:
            raise ValueError(
                f"{self.run.dir}: the data of this run was not made from raw rows, so it cannot "
                "read any; only runs of a source that has an encoder can"
            )
        return restore_encoder(self.run.read(VOCABULARY).frame, described)

    @property
    def schema(self) -> Schema:
        """The columns of a batch; its `targets` are the tasks, with their kinds."""
        return self.encoder.schema

    @property
    def columns(self) -> Columns:
        """The roles of the raw columns."""
        return self.encoder.columns

    # --- models ------------------------------------------------------------------------------

    @property
    def reads(self) -> Schema:
        """The columns of a batch that the models read; both read the same."""
        return (self.pruned if "pruned" in vars(self) else self.model).schema

    @cached_property
    def model(self) -> Recommender:
        """The model as trained, on the CPU, in evaluation mode."""
        return self._recommender(WEIGHTS)

    @cached_property
    def pruned(self) -> Recommender:
        """The pruned model, on the CPU, in evaluation mode."""
        return self._recommender(PRUNED)

    def recommender(self, name: ModelName) -> Recommender:
        """One of the two models, by its name."""
        return self.model if name == "trained" else self.pruned

    def _recommender(self, file: File[Weights]) -> Recommender:
        weights = self.run.read(file)
        described = self.run.read(ENCODER).values
        if weights.origin is not None and described.get("encoder_sha256") not in (
            None,
            weights.origin.get("encoder_sha256"),
        ):
            raise ValueError(
                f"{self.run.dir / file.name} was trained with another encoder than {ENCODER.name} "
                "beside it; restore the files of one run"
            )
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, and replaced
            model: Recommender = build_node(self.run.config["model"])(self.schema)
        model.load(weights.tensors, str(self.run.dir / file.name))
        return model.eval().requires_grad_(False)  # several threads may explain it

    # --- users and items ---------------------------------------------------------------------

    @cached_property
    def items(self) -> Items:
        """The items of the log, with display names and the raw columns of their side."""
        return Items.from_table(self.run.read(CATALOGUE).frame, self.encoder)

    @cached_property
    def interactions(self) -> Interactions:
        """Who took what, and when."""
        return Interactions(self.run.read(INTERACTIONS).frame)

    @cached_property
    def last_rows(self) -> LastRows:
        """The context columns of the last row of each user."""
        return LastRows.from_table(self.run.read(LAST_ROWS).frame)

    # --- explanations ------------------------------------------------------------------------

    @cached_property
    def explanation(self) -> Explanation:
        """The facts of the run's own explanation: method, task, trust."""
        return self.run.read(EXPLANATION)

    @cached_property
    def baseline(self) -> Inputs:
        """The embedded rows (M, ...) that the run's explanations compare with."""
        return Inputs(**self.run.read(BASELINE).tensors)

    @cached_property
    def explain_settings(self) -> Explain:
        """The settings of the run's explanation, with the method as refined there, and its task."""
        node = dict(self.run.config["explain"]) | {"compare": {}, "reference": None}
        settings: Explain = build_node(node)
        about = self.explanation
        method: Method | None = settings.method
        while method is not None and method.name != about.method:
            method = method.finer()
        return replace(
            settings,
            task=about.task,
            method=method or settings.method,
            select=Selection(rows=None),
        )

    def explainer(
        self, batch: Batch, model: ModelName = "trained", task: str | None = None
    ) -> Explainer:
        """Explains encoded rows as the run explained its own: same method, features and baseline.

        Attributions are of the logit, against the baseline. `explained(settings.method, rows, k)`
        of the result gives those of `rows` of the batch, where k counts the rows before the batch,
        on which alone the draws of sampled methods depend.

        Args:
            batch: one row or more.
            model: which model; both are compared with the same baseline.
            task: the explained task; the run's if None.

        Raises:
            ValueError: there is no such task.
        """
        split = Split(batch)
        settings = self.explain_settings
        if task is not None:
            settings = replace(settings, task=task)
        data = Dataset(self.schema, split, split, split)
        seed = int(self.run.config["seed"])
        return settings.build_explainer(self.recommender(model), data, seed, self.baseline)

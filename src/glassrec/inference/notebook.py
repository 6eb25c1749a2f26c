"""A finished run in Python and in notebooks: predictions and explanations of your own frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from glassrec.artifacts.file_list import IMPORTANCE
from glassrec.data.batch import Batch
from glassrec.explain.methods import Method
from glassrec.inference.explained_rows import ExplainedRows
from glassrec.inference.opened_run import ModelName, OpenedRun
from glassrec.inference.predict import predictions
from glassrec.inference.rows import RawRows, encode_frame
from glassrec.models.base import Recommender
from glassrec.report.statements import ranked


def load(directory: Path | str, trusted: Sequence[str] = ()) -> TrainedRun:
    """Open a finished run. It needs nothing but its directory, and nothing is written there.

    Args:
        directory: of one run.
        trusted: import paths of classes of your own in the working directory that the run uses.

    Raises:
        ValueError: the directory holds no run, or its settings were changed.
    """
    return TrainedRun(OpenedRun.open(directory, trusted))


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, whose methods take frames of raw rows, in your own values; see `load`.

    A frame may have its columns in any order, and others beside them. Labels are not needed. A
    missing column, or a cell that is not of its column's type, is a ValueError that names both.
    """

    opened: OpenedRun

    def __repr__(self) -> str:
        model = type(self.model).__name__
        tasks = ", ".join(target.name for target in self.opened.schema.targets)
        return f"TrainedRun({str(self.opened.run.dir)!r}: {model} of {tasks})"

    @property
    def model(self) -> Recommender:
        """The model as trained, on the CPU, in evaluation mode."""
        return self.opened.model

    @property
    def pruned(self) -> Recommender:
        """The pruned model, on the CPU, in evaluation mode."""
        return self.opened.pruned

    @property
    def importance(self) -> pd.DataFrame:
        """The features of the run's own explanation, the most important first.

        A row for each feature, with the statistics of its attributions.
        """
        table = ranked(self.opened.run.read(IMPORTANCE).frame)
        return table.set_index("player").rename_axis("feature")

    def encode(self, rows: pd.DataFrame) -> Batch:
        """The tensors of raw rows, as the models take them; the targets are zeros."""
        return self._encoded(rows).batch

    def predict(
        self,
        rows: pd.DataFrame,
        *,
        model: ModelName = "trained",
        reasons: int = 0,
        attributions: bool = False,
        task: str | None = None,
    ) -> pd.DataFrame:
        """The rows with predictions, as `glassrec predict` adds them.

        Args:
            rows: N raw rows.
            model: `trained` or `pruned`.
            reasons: how many columns `reason_1`, `reason_2`, ... to add, strongest first.
            attributions: whether to add `baseline_logit` and `attribution/NAME` of all features.
            task: the explained task; the run's if None.

        Returns:
            the frame with, for each task, `probability` (of a click), `estimate` (of a rating, in
            its unit) or `score` (of a retrieval), and `logit`; and `unseen`, the values that
            training did not know.
        """
        raw = self._encoded(rows)
        found = predictions(self.opened, raw, model, reasons, attributions, task)
        return pd.concat([rows, found.set_axis(rows.index)], axis=1)

    def explain(
        self,
        rows: pd.DataFrame,
        *,
        model: ModelName = "trained",
        task: str | None = None,
        method: Method | None = None,
    ) -> ExplainedRows:
        """The attributions of the logit of each row, against the run's baseline.

        Args:
            rows: N raw rows.
            model: `trained` or `pruned`.
            task: the explained task; the run's if None.
            method: of `glassrec.explain.methods`; the run's if None.
        """
        raw = self._encoded(rows)
        explainer = self.opened.explainer(raw.batch, model, task)
        method = method or self.opened.explain_settings.method
        method.check(explainer.model, explainer.feature_mask, explainer.bases.rows)
        found = explainer.explained(method, torch.arange(raw.batch.rows))
        return ExplainedRows(self.opened, raw, found, rows.index, explainer.target, method.name)

    def _encoded(self, rows: pd.DataFrame) -> RawRows:
        if not len(rows):
            raise ValueError("the frame has no rows; give one or more")
        return encode_frame(self.opened, rows)

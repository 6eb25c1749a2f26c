"""A finished run in Python and in notebooks: predictions and explanations of your own frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from glassrec.artifacts.file_list import IMPORTANCE
from glassrec.data.batch import Batch
from glassrec.explain.methods import Method
from glassrec.inference.explained_rows import ExplainedRows
from glassrec.inference.list_inputs import (
    CandidateItems,
    UserRows,
    context_columns,
    rankable,
    typed_rows,
)
from glassrec.inference.opened_run import ModelName, OpenedRun
from glassrec.inference.predict import predictions
from glassrec.inference.ranking import Ranker, Seen
from glassrec.inference.reasons import attributed
from glassrec.inference.recommend import check_context, recommendations
from glassrec.inference.rows import RawRows, encode_frame
from glassrec.inference.serving import Server
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

    A frame needs the columns that the model reads, in any order, and may have others. A missing
    column, or a cell that is not of its column's type, is a ValueError that names both.
    """

    opened: OpenedRun

    def __repr__(self) -> str:
        model = self.opened.run.config["model"]["_target_"].rpartition(".")[2]
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
        changes: int = 0,
        threshold: float | None = None,
    ) -> pd.DataFrame:
        """The rows with predictions, as `glassrec predict` adds them.

        Args:
            rows: N raw rows.
            model: `trained` or `pruned`.
            reasons: how many columns `reason_1`, `reason_2`, ... to add, strongest first.
            attributions: whether to add `baseline_logit` and `attribution/NAME` of all features.
            task: the explained task; the run's if None.
            changes: of how many changes counterfactuals may be; 0 leaves them out.
            threshold: that these go below; 0.5, or the mean rating in training, if None.

        Returns:
            the frame with, for each task, `probability` (of a click), `estimate` (of a rating, in
            its unit) or `score` (of a retrieval), and `logit`; and `unseen`, the unknown values.
        """
        raw = self._encoded(rows)
        found = predictions(
            self.opened, raw, model, reasons, attributions, task, changes, threshold
        )
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
        found = attributed(self.opened, raw, model, task, method)
        return ExplainedRows(self.opened, raw, found, rows.index, task, method)

    def recommend(
        self,
        user: Any,
        k: int = 10,
        *,
        context: Mapping[str, Any] | None = None,
        candidates: Path | str | None = None,
        seen: Seen = "drop",
        reasons: int = 0,
        changes: int = 0,
        model: ModelName = "trained",
        task: str | None = None,
    ) -> pd.DataFrame:
        """The best items for a user, or for several, as `glassrec recommend` lists them.

        Args:
            user: a raw value, or a list of them.
            k: the length of a list; it is shorter where fewer candidates are left.
            context: values of the columns that follow from neither user nor item; those that are
                not given are those of the user's last row in the log.
            candidates: a file of items; None: the items that training knew.
            seen: what becomes of the items of the user's rows in the log: `drop`, `drop_taken` or
                `keep`.
            reasons: how many columns of reasons an item gets.
            changes: of how many changes counterfactuals may be; 0 leaves them out.
            model: `trained` or `pruned`.
            task: ranks the items, and is explained; the retrieval, or else the first, if None.

        Returns:
            user, rank, item, name, the columns of `predict`, and the context in words.
        """
        run, given = self.opened, {name: str(value) for name, value in (context or {}).items()}
        ranker = self.serve(candidates=candidates, seen=seen, model=model, task=task).ranker
        column, _ = rankable(run)
        check_context(given, context_columns(run))
        several = isinstance(user, list | tuple | pd.Series | pd.Index)
        texts = [str(each) for each in (user if several else [user])]

        def users() -> Iterator[UserRows]:
            for start in range(0, len(texts), ranker.users_at_once):
                some = texts[start : start + ranker.users_at_once]
                yield typed_rows(run, {column: some}, "the users")

        found = [frame for _, frame in recommendations(ranker, users(), k, given, reasons, changes)]
        if not found:
            raise ValueError("there is no user; name one or more")
        return pd.concat(found, ignore_index=True)

    def serve(
        self,
        *,
        candidates: Path | str | None = None,
        seen: Seen = "drop",
        model: ModelName = "trained",
        task: str | None = None,
        method: Method | None = None,
    ) -> Server:
        """Make the same lists for one user at a time, in milliseconds; arguments as in `recommend`.

        `method` is that of the reasons. None is DeepLIFT where it has a rule for all functions of
        the model, and else the run's own, which is `opened.explain_settings.method`.
        """
        rankable(self.opened)
        items = (
            CandidateItems.of_catalogue(self.opened)
            if candidates is None
            else CandidateItems.of_file(self.opened, Path(candidates))
        )
        return Server(Ranker(self.opened, items, task, model, seen), method)

    def _encoded(self, rows: pd.DataFrame) -> RawRows:
        if not len(rows):
            raise ValueError("the frame has no rows; give one or more")
        return encode_frame(self.opened, rows)

"""The files of Neural Collaborative Filtering (He et al., WWW 2017), split by its authors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge, MinLen
from pydantic import DirectoryPath

from glassrec.data.audit import audit_log
from glassrec.data.catalogue import ranking_lists
from glassrec.data.cells import INTEGER, TEXT
from glassrec.data.columns import Columns, Part, Parts
from glassrec.data.dataset import Dataset, Source, assemble
from glassrec.data.encoding import NO_SCALERS, Scalers
from glassrec.data.events import with_history
from glassrec.data.raw_tables import RowLog
from glassrec.data.text_file import Origin, TextFile, read_text

COLUMNS = Columns(user="user", item="item")


@dataclass(frozen=True)
class NCF(Source):
    """Implicit feedback with the authors' test items and their 99 negatives each.

    `PREFIX.train.rating` and `PREFIX.test.rating` hold user, item, rating and, in the published
    files, a timestamp, separated by tabs; `PREFIX.test.negative` holds `(user,item)` and the items
    to rank it against, a line for each line of the test ratings. All ratings count as positives.

    The authors have no validation item. Here it is a training row of each user with two rows: the
    newest, by timestamp or, without one, the first, since a user's rows are newest first; or any,
    drawn by the seed. The newest row says most about the test item, so that holding it out costs
    the most: choose `random` to compare with published numbers, which choose on the test items.

    A negative that is the test item itself (156 lines of the published file have one) is dropped.

    Attributes:
        root: the folder of the three files.
        prefix: how their names begin.
        negatives: how many negatives a training positive gets, drawn afresh each epoch.
        validation: which training row of a user is held out to choose the epoch.
        candidates: how many items a validation item is ranked against.
        history: how many of the user's earlier items a row shows; 0 for none. It needs the newest
            row for validation.
    """

    root: DirectoryPath
    prefix: Annotated[str, MinLen(1)] = "ml-1m"
    negatives: Annotated[int, Ge(1)] = 4
    validation: Literal["newest", "random"] = "newest"
    candidates: Annotated[int, Ge(1)] = 99
    history: Annotated[int, Ge(0)] = 0

    def load(self, seed: int, scalers: Scalers = NO_SCALERS) -> Dataset:
        """The training positives and two sets of ranking lists; fields `user` and `item`."""
        train, test, negatives = self.paths
        generator = torch.Generator().manual_seed(seed)
        chosen = _ratings(train)
        held = _ratings(test)
        out = _validation_rows(chosen, None if self.validation == "newest" else generator)
        log = pd.concat([chosen, held], ignore_index=True)[["user", "item"]]
        _, audit = audit_log(log, COLUMNS)
        order = _order(chosen, held)  # as steps, rows of equal time stand from last to first
        log = with_history(log[::-1], COLUMNS, self.history, order=order[::-1])[::-1]
        validation = ranking_lists(log, out, COLUMNS, self.candidates, generator)
        positives = log[: len(chosen)].drop(out)
        parts = Parts(
            Part(positives, np.ones(len(positives), np.float32)),
            validation,
            _test_lists(log[len(chosen) :].reset_index(drop=True), negatives, test),
        )
        return assemble(
            parts, COLUMNS,
            negatives=self.negatives, history=self.history, audit=audit, scalers=scalers,
            log=RowLog(log[::-1], order[::-1]),
        )  # fmt: skip

    @property
    def paths(self) -> list[Path]:
        """The three files."""
        ends = ("train.rating", "test.rating", "test.negative")
        return [Path(self.root) / f"{self.prefix}.{end}" for end in ends]


def _ratings(path: Path) -> pd.DataFrame:
    names = ("user", "item", "rating", "time")[: max(3, len(TextFile.open(path).first_cells))]
    return read_text(path, dict.fromkeys(names, INTEGER))


def _order(chosen: pd.DataFrame, held: pd.DataFrame) -> np.ndarray:
    """(N,) the sort key of the rows of a user, the test row last."""
    time = chosen["time"].to_numpy() if "time" in chosen else -np.arange(len(chosen))
    return np.r_[time, np.full(len(held), np.iinfo(np.int64).max)]


def _validation_rows(log: pd.DataFrame, generator: torch.Generator | None) -> np.ndarray:
    """The position of the newest row, or of a random one, of each user with two rows or more."""
    if generator is not None:
        log = log.iloc[torch.randperm(len(log), generator=generator).numpy()]
    elif "time" in log:
        log = log.sort_values("time", ascending=False, kind="stable")
    first, several = ~log.duplicated("user"), log.duplicated("user", keep=False)
    return np.sort(log.index[first & several].to_numpy())


def _test_lists(held: pd.DataFrame, path: Path, ratings: Path) -> Part:
    """Each test item, then its negatives, without those that are the test item itself."""
    width = len(TextFile.open(path).first_cells) - 1
    negatives = read_text(
        path, {"pair": TEXT} | {f"negative {i + 1}": INTEGER for i in range(width)}
    )
    _check_pairs(held, negatives["pair"], path, ratings)
    items = np.column_stack([held["item"], negatives.drop(columns="pair")])
    keep = items != items[:, :1]
    keep[:, 0] = True
    labels = np.zeros(items.shape, np.float32)
    labels[:, 0] = 1
    query = np.repeat(np.arange(len(items))[:, None], items.shape[1], axis=1)[keep]
    return Part(held.iloc[query].assign(item=items[keep]), labels[keep], query)


def _check_pairs(held: pd.DataFrame, pairs: pd.Series, path: Path, ratings: Path) -> None:
    if len(pairs) != len(held):
        raise ValueError(
            f"{path} has {len(pairs)} lines and {ratings.name} has {len(held)}; "
            "they must be of the same split"
        )
    expected = "(" + held["user"].astype(str) + "," + held["item"].astype(str) + ")"
    wrong = (pairs.astype(str) != expected).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{Origin(path).at(row)}: begins with {pairs.iloc[row]}, but this line of "
            f"{ratings.name} is {expected.iloc[row]}; both files must be of the same split"
        )

"""What a source hands over: three splits, and, for implicit feedback, how to draw negatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.catalogue import Catalogue
from glassrec.data.findings import Audit
from glassrec.data.schema import Schema

if TYPE_CHECKING:
    from glassrec.data.encoding import Encoder, Scalers
    from glassrec.data.negatives import Negatives


@dataclass(frozen=True)
class Split:
    """Rows for one purpose.

    `query` (N,) int64, non-decreasing, names the ranking list that a row belongs to: under the
    leave-one-out protocol the row of target 1 is the held-out item and the others are its
    candidates. It is None where rows are judged one by one.
    """

    batch: Batch
    query: Tensor | None = None


@dataclass(frozen=True)
class GroundTruth:
    """The true effects of generated data: the standard deviation, in logits, of each effect.

    Columns that appear in neither mapping do nothing.
    """

    main: dict[str, float]
    pairs: dict[tuple[str, str], float]


@dataclass(frozen=True)
class Dataset:
    """Whole tensors in memory. `train` holds positives only where `negatives` is given.

    `catalogue` is there where the schema names a user and an item, `audit` where rows were read.
    `encoder` made the tensors from raw values, and `row_keys` are the keys of the raw rows, see
    the module `row_keys`; data that was not made from raw rows has neither.
    """

    schema: Schema
    train: Split
    validation: Split
    test: Split
    catalogue: Catalogue | None = None
    negatives: Negatives | None = None
    ground_truth: GroundTruth | None = None
    audit: Audit | None = None
    encoder: Encoder | None = None
    row_keys: pd.DataFrame | None = None

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits under the names that metrics carry: train, val, test."""
        return {"train": self.train, "val": self.validation, "test": self.test}

    @property
    def ranked(self) -> bool:
        """Whether the validation split is judged by ranking lists."""
        return self.validation.query is not None

    def occurrences(self, *, history: bool) -> Tensor:
        """(rows of the joint table,) int64: how often training rows hold each id.

        Args:
            history: whether the steps of histories count, too.
        """
        counts = torch.zeros(self.schema.num_ids, dtype=torch.long)
        ids, steps = self.train.batch.ids, self.train.batch.history
        for column in ids.unbind(1):  # one at a time, to bound the memory
            counts += column[column >= 0].bincount(minlength=len(counts))
        for step in steps.unbind(1) if history else ():
            counts += step[step > 0].bincount(minlength=len(counts))
        return counts

    def sample(self, rows: int, seed: int) -> Batch:
        """Training rows at random, negatives among them; at most `rows`, and no row twice."""
        generator = torch.Generator().manual_seed(seed)
        batch, negatives = self.train.batch, self.negatives
        each = 1 if negatives is None else 1 + negatives.per_positive
        chosen = torch.randperm(batch.rows, generator=generator)[: max(rows // each, 1)]
        batch = batch.select(chosen)
        return batch if negatives is None else negatives.augment(batch, generator)

    def epoch(self, seed: int, epoch: int) -> Batch:
        """The training rows of one epoch: negatives drawn afresh, order shuffled.

        It depends on `seed` and `epoch` alone, so that an interrupted run resumes bit for bit.
        """
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        batch = self.train.batch
        if self.negatives is not None:
            batch = self.negatives.augment(batch, generator)
        return batch.select(torch.randperm(batch.rows, generator=generator))


class Source(ABC):
    """Where data comes from. A source is a frozen dataclass: its fields are its configuration."""

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """The sha256 of each file that `load` reads; empty for data made from settings."""

    @abstractmethod
    def load(self, seed: int, scalers: Scalers = ...) -> Dataset:
        """Read everything and split it.

        Args:
            seed: fixes random splits and evaluation candidates.
            scalers: those that dense columns keep instead of fitted ones, by column.

        Raises:
            ValueError: a file is missing, empty or malformed; the message names file and line.
        """

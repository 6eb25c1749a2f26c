"""A dataset of three splits, the interface of its sources, and how raw rows become a dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from glassrec.data.audit import Audit, audit_log, with_parts
from glassrec.data.batch import Batch, Split
from glassrec.data.catalogue import Catalogue, Negatives
from glassrec.data.columns import Columns, Parts
from glassrec.data.content import fingerprint
from glassrec.data.encoding import NO_SCALERS, Encoder, Scalers
from glassrec.data.events import Policy, check_past, last_rows, with_history
from glassrec.data.log_checks import FRAME, check_log
from glassrec.data.raw_tables import RawTables, RowLog, raw_tables
from glassrec.data.row_blocks import RowBlocks
from glassrec.data.saved_encoder import row_keys
from glassrec.data.schema import Schema
from glassrec.data.sides import check_undeclared
from glassrec.data.splits import Splitter
from glassrec.data.text_file import Origin

MAX_EPOCH_BYTES = 1 << 30
"""Of the rows of an epoch, with ids in int64, up to which they are shuffled as a whole."""

BLOCK_ROWS, BLOCKS_PER_PART = 4096, 64
"""Neighbouring rows that stay together in longer epochs, until so many blocks are shuffled."""


@dataclass(frozen=True)
class GroundTruth:
    """The true effects of generated data: the standard deviation, in logits, of each effect.

    Columns that appear in neither mapping have no effect.
    """

    main: dict[str, float]
    pairs: dict[tuple[str, str], float]


@dataclass(frozen=True)
class Dataset:
    """Whole tensors, in memory or mapped from a store.

    Examples:
        >>> from glassrec.data.planted import Planted
        >>> data = Planted(rows=100).load(seed=0)
        >>> {name: split.batch.ids.shape for name, split in data.splits.items()}
        {'train': torch.Size([80, 8]), 'val': torch.Size([10, 8]), 'test': torch.Size([10, 8])}
        >>> data.epoch(seed=0, epoch=3).rows
        80

    Attributes:
        schema: the columns of all batches.
        train: positives only, where `negatives` is given.
        validation: the rows that choose between epochs and models.
        test: the rows of the final metrics.
        catalogue: the training items, where the schema names a user and an item.
        negatives: draws negatives for each epoch, for implicit feedback.
        ground_truth: the true effects of generated data.
        audit: the findings on the raw rows, where rows were read.
        encoder: made the tensors from raw values; None for data that was not made from raw rows.
        row_keys: of the raw rows, see `saved_encoder.row_keys`; None as for `encoder`.
        raw: the items, interactions and last rows in raw values; None as for `encoder`.
        probabilities: (N, K), by split: those that the trained model gives which the data came
            with; None where it came without.
        sequences: (U,) int64: the last training row of each user; None without histories.
        decoder: gives the raw values of rows that no encoder made, see `decoding.decode`.
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
    raw: RawTables | None = None
    probabilities: Mapping[str, Tensor] | None = None
    sequences: Tensor | None = None
    decoder: Callable[[Batch], pd.DataFrame] | None = None

    @property
    def labelled(self) -> bool:
        """Whether true values are known; where they are not, all targets are NaN."""
        return not self.train.batch.targets[:1].isnan().any()

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits under the names that metrics carry: train, val, test."""
        return {"train": self.train, "val": self.validation, "test": self.test}

    @property
    def ranked(self) -> bool:
        """Whether the validation split is judged by ranking lists."""
        return self.validation.query is not None

    @property
    def rows_per_positive(self) -> int:
        """The training rows of an epoch for each row of `train`: itself and its negatives."""
        return 1 if self.negatives is None else 1 + self.negatives.per_positive

    @property
    def rows_per_epoch(self) -> int:
        """The training rows of an epoch, negatives among them."""
        return self.train.batch.rows * self.rows_per_positive

    def seen_ids(self, *, history: bool) -> Tensor:
        """(`schema.num_ids`,) bool: whether training rows hold each global id.

        With `history`, the steps of histories count, too.
        """
        seen = torch.zeros(self.schema.num_ids, dtype=torch.bool)
        ids, steps = self.train.batch.ids, self.train.batch.history
        for column in ids.unbind(1):  # one at a time, to bound the memory
            seen[column[column >= 0]] = True
        for step in steps.unbind(1) if history else ():
            seen[step[step > 0]] = True
        return seen

    def sample(self, rows: int, seed: int) -> Batch:
        """Training rows at random, negatives among them; at most `rows`, and no row twice."""
        generator = torch.Generator().manual_seed(seed)
        batch, negatives = self.train.batch, self.negatives
        count = max(rows // self.rows_per_positive, 1)
        chosen = torch.randperm(batch.rows, generator=generator)[:count]
        batch = batch.select(chosen)
        return batch if negatives is None else negatives.augment(batch, generator)

    def epoch(self, seed: int, epoch: int, rank: int = 0, processes: int = 1) -> Batch:
        """The training rows of one epoch, or the share of a process: negatives drawn, shuffled.

        It depends on `seed` and `epoch` alone, so that an interrupted run resumes bit for bit.
        """
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        rows, order = self._shuffled(self.train.batch, generator)
        return rows.select(order[rank : rows.rows // processes * processes : processes])

    @property
    def in_blocks(self) -> bool:
        """Whether the rows of an epoch are too many for a shuffled copy of them all."""
        batch = self.train.batch
        ids, numbers = batch.ids.shape[1] + batch.history.shape[1], batch.dense.shape[1]
        width = 8 * ids + 4 * (numbers + batch.targets.shape[1])
        return self.rows_per_epoch * width > MAX_EPOCH_BYTES

    def epoch_parts(
        self, seed: int, epoch: int, rank: int = 0, processes: int = 1
    ) -> Iterator[Batch]:
        """The share of a process in the training rows of one epoch, in one part or several.

        Each process gets every so many rows of one order, the same number of them. The order is
        that of `epoch` or, where an epoch would take more than `MAX_EPOCH_BYTES`, that of shuffled
        blocks of neighbouring rows, with the rows of `BLOCKS_PER_PART` blocks shuffled together;
        negatives are drawn for each part. All of it depends on `seed` and `epoch` alone.
        """
        if not self.in_blocks:
            yield self.epoch(seed, epoch, rank, processes)
            return
        first = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        batch, done = self.train.batch, 0
        starts = torch.randperm(-(-batch.rows // BLOCK_ROWS), generator=first) * BLOCK_ROWS
        end = batch.rows // processes * processes
        for part in starts.split(BLOCKS_PER_PART):
            rows = Batch(*(torch.cat([x[at : at + BLOCK_ROWS] for at in part]) for x in batch))
            order = torch.randperm(rows.rows, generator=first)[: end - done]
            own = rows.select(order[(rank - done) % processes :: processes])
            done += len(order)
            if self.negatives is not None:
                drawn = int(torch.randint(2**62, (), generator=first)) + rank
                own, order = self._shuffled(own, torch.Generator().manual_seed(drawn))
                own = own.select(order)
            yield own

    def _shuffled(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, Tensor]:
        """The rows with their negatives, if there are any, and a random order of them."""
        if self.negatives is not None:
            batch = self.negatives.augment(batch.slice(0, batch.rows), generator)
        return batch, torch.randperm(batch.rows, generator=generator)


class Source(ABC):
    """Where data comes from. A source is a frozen dataclass: its fields are its configuration.

    Your own source is one file and one YAML file whose `_target_` is its import path:

    Examples:
        >>> from dataclasses import dataclass
        >>> import pandas as pd
        >>> from glassrec.data.columns import Columns
        >>> from glassrec.data.splits import Random
        >>> @dataclass(frozen=True)
        ... class Coins(Source):
        ...     rows: int = 40
        ...     def load(self, seed, scalers=NO_SCALERS):
        ...         frame = pd.DataFrame({"side": [*"ht"] * self.rows, "won": [1, 0] * self.rows})
        ...         columns = Columns(label="won", categorical=("side",))
        ...         return build_dataset(frame, columns, Random(), seed, scalers=scalers)
        >>> Coins().load(seed=0).train.batch.ids.shape
        torch.Size([64, 1])
    """

    def of_model(self, model: Any) -> Source:
        """The source for a model: itself, unless rows are inputs of that model alone."""
        return self

    @property
    def paths(self) -> Sequence[Path]:
        """The files that `load` reads; none for data made from settings."""
        return ()

    def fingerprint(self) -> dict[str, str]:
        """The sha256 of each file that `load` reads."""
        return fingerprint(self.paths)

    def row_blocks(self) -> RowBlocks | None:
        """The rows, if a store can be written of blocks of them without `load`."""
        return None

    @abstractmethod
    def load(self, seed: int, scalers: Scalers = NO_SCALERS) -> Dataset:
        """Read everything and split it.

        Args:
            seed: fixes random splits and evaluation candidates.
            scalers: those that dense columns keep instead of fitted ones, by column.

        Raises:
            ValueError: a file is missing, empty or malformed; the message names file and line.
        """


def build_dataset(
    frame: pd.DataFrame,
    columns: Columns,
    split: Splitter,
    seed: int,
    *,
    negatives: int = 1,
    min_count: int = 1,
    history: int = 0,
    duplicates: Policy = "keep",
    repeats: Policy = "keep",
    scalers: Scalers = NO_SCALERS,
    origin: Origin = FRAME,
) -> Dataset:
    """The dataset of a log; `seed` fixes random splits and candidates.

    Times are numbers, datetimes or ISO 8601 text. The other settings are those of `Table`;
    `scalers` are kept, see `Encoder.fit`; `origin` is named in errors.

    Raises:
        ValueError: a value does not suit the role of its column, see `check_log`; the rows lack
            what the settings need, or would reveal held-out items.
    """
    for name, policy in {"duplicates": duplicates, "repeats": repeats}.items():
        if policy not in ("drop", "keep"):
            raise ValueError(f"{name}: {policy!r} is neither 'drop' nor 'keep'")
    frame, unit = check_log(frame, columns, origin), None
    if columns.time is not None:
        kind = frame[columns.time].dtype
        if isinstance(kind, pd.DatetimeTZDtype):
            frame[columns.time], unit = frame[columns.time].astype("int64"), kind.unit
    frame, audit = audit_log(frame, columns, duplicates=duplicates, repeated=repeats)
    kept = duplicates == "keep" and repeats == "keep" and columns.time is None
    if kept and split.ranked and audit.has("duplicate events"):
        raise ValueError(
            "data.duplicates=keep: without a time column a second record of an event looks like a "
            "second event, and held-out items would be in training too; name a time column, or set "
            "data.duplicates=drop"
        )
    log = RowLog(frame, date_unit=unit)
    frame = with_history(frame, columns, history)
    parts = split.split(frame, columns, split.generator(seed))
    return assemble(
        parts,
        columns,
        negatives=negatives,
        min_count=min_count,
        history=history,
        audit=audit,
        scalers=scalers,
        log=log,
    )


def assemble(
    parts: Parts,
    columns: Columns,
    *,
    negatives: int = 1,
    min_count: int = 1,
    history: int = 0,
    audit: Audit | None = None,
    scalers: Scalers = NO_SCALERS,
    log: RowLog | None = None,
) -> Dataset:
    """The dataset of divided raw rows, which have the steps of their `history`.

    The other arguments are those of `build_dataset`; findings on the parts are added to the audit.
    `log` are all rows, if histories show some that are in no part.

    Raises:
        ValueError: a training row's history would show held-out items, or a column that the
            item determines is not declared where it would reveal the item.
    """
    if history:
        check_past(parts, columns)
    ranked = parts.validation.query is not None
    if ranked or columns.retrieval:
        check_undeclared(parts.train.frame, columns)
    encoder = Encoder.fit(parts.train.frame, columns, min_count, history, scalers)
    train, validation, test = (encoder.encode(part) for part in parts)
    known = (
        Catalogue.from_ids(train.batch, encoder.schema) if columns.user and columns.item else None
    )
    return Dataset(
        encoder.schema,
        train,
        validation,
        test,
        catalogue=known,
        negatives=Negatives(known, negatives) if ranked and known else None,
        audit=None if audit is None else with_parts(audit, parts, columns),
        encoder=encoder,
        row_keys=row_keys(parts, columns),
        raw=raw_tables(log or RowLog.from_parts(parts), parts, encoder),
        sequences=torch.tensor(last_rows(parts.train.frame, columns)) if history else None,
    )

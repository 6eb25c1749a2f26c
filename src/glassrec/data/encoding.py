"""Raw values become ids and numbers; everything learnt for that comes from the training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil, inf, log10
from types import MappingProxyType

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glassrec.data.batch import Batch, Split
from glassrec.data.cells import split_values
from glassrec.data.columns import Columns, Part
from glassrec.data.events import step_names
from glassrec.data.schema import ABSENT, UNSEEN, Field, Schema, Target

LARGEST, FINEST = 1e18, 1e-5
"""Of ratings, the largest and the reciprocal of the smallest deviation, whose squares single
precision holds; the least deviation relative to their size, of which rounding is within 1 %."""

PAIRWISE = 1 << 20
"""Numbers that are read at once where they are added up, more than the 128 that NumPy halves."""


@dataclass(frozen=True)
class Vocabulary:
    """The values of a field, in order; value i has id i + 1, any other value has id 0."""

    values: pd.Index

    @classmethod
    def fit(cls, column: pd.Series, min_count: int = 1) -> Vocabulary:
        """The values that occur at least `min_count` times, sorted."""
        counts = column.value_counts(sort=False)
        values = counts.index[counts >= max(min_count, 1)]
        if isinstance(values, pd.CategoricalIndex):
            values = values.astype(values.categories.dtype)
        return cls(values.sort_values())

    def encode(self, column: pd.Series | pd.Index, offset: int = 0) -> np.ndarray:
        """The ids (N,) int64 of the values (N,), plus `offset`."""
        if isinstance(column.dtype, pd.CategoricalDtype):
            # Looks up each distinct value once; a missing one has code -1, the last entry.
            ids = np.append(self.encode(column.dtype.categories, offset), offset + UNSEEN)
            return ids[column.array.codes]
        return self.values.get_indexer(pd.Index(column)) + 1 + offset

    def field(self, name: str) -> Field:
        """The field `name` of these values."""
        return Field(name, len(self.values) + 1)


@dataclass(frozen=True)
class MultiValued:
    """A field whose cells hold several values; empty ones are skipped.

    `width` is the largest number of values of a training cell; further ones are not read.
    `separator` stands between the values of a cell, unless the cell is a list of a parquet file.
    """

    vocabulary: Vocabulary
    width: int
    separator: str = "|"

    @property
    def values(self) -> pd.Index:
        """The values of the vocabulary."""
        return self.vocabulary.values

    @classmethod
    def fit(cls, column: pd.Series, min_count: int = 1, separator: str = "|") -> MultiValued:
        """The values of all cells."""
        codes, lists = _lists(column, separator)
        lengths = lists.str.len()
        values, names = pd.factorize(lists.explode())
        counts = np.bincount(values, np.repeat(np.bincount(codes), lengths))
        known = pd.Index(names)[counts >= max(min_count, 1)].sort_values()
        return cls(Vocabulary(known), int(lengths.max()), separator)

    def encode(self, column: pd.Series, offset: int) -> np.ndarray:
        """The ids (N, width) int64 of the cells (N,), plus `offset`, filled up with ABSENT."""
        codes, lists = _lists(column, self.separator)
        ids = np.full((len(lists), self.width), ABSENT)
        for at in range(self.width):
            there = (lists.str.len() > at).to_numpy()
            ids[there, at] = self.vocabulary.encode(lists[there].str[at]) + offset
        return ids[codes]

    def field(self, name: str) -> Field:
        """The field `name` of these values."""
        return Field(name, len(self.values) + 1, self.width)


def _lists(column: pd.Series, separator: str) -> tuple[np.ndarray, pd.Series]:
    """The code (N,) of each cell, and the values of the cell of each code."""
    codes, cells = pd.factorize(column, use_na_sentinel=False)
    texts = pd.Index(cells).astype("string").fillna("")
    return codes, pd.Series([split_values(text, separator) for text in texts], dtype=object)


@dataclass(frozen=True)
class Scaler:
    """(x − mean) / deviation, of log(1 + max(x, 0)) where `log`; a missing value becomes 0."""

    log: bool
    mean: float
    deviation: float

    @classmethod
    def fit(cls, values: np.ndarray, log: bool) -> Scaler:
        """The scaler that gives `values` (N,), NaN = missing, mean 0 and deviation 1."""
        known = logged(values[~np.isnan(values)], log)
        if not len(known):
            return cls(log, mean=0.0, deviation=1.0)
        constant = known.min() == known.max()
        return cls(log, float(known.mean()), 1.0 if constant else float(known.std()))

    @classmethod
    def fit_blocks(cls, read: Callable[[int, int], np.ndarray], n: int, log: bool) -> Scaler:
        """The same, bit for bit, of n values that are known and, where `log`, logarithms already.

        `read(start, count)` gives some of them, at most `PAIRWISE` at once.
        """
        if not n:
            return cls(log, mean=0.0, deviation=1.0)
        mean = pairwise_sum(read, 0, n) / n
        squares = pairwise_sum(lambda start, count: (read(start, count) - mean) ** 2, 0, n)
        ends = [
            (x.min(), x.max())
            for x in (read(s, min(PAIRWISE, n - s)) for s in range(0, n, PAIRWISE))
        ]
        constant = min(low for low, _ in ends) == max(high for _, high in ends)
        return cls(log, float(mean), 1.0 if constant else float(np.sqrt(squares / n)))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The scaled values (N,)."""
        with np.errstate(divide="ignore", over="ignore"):  # infinite results are refused later
            scaled = (logged(values, self.log) - self.mean) / self.deviation
        return np.nan_to_num(scaled, copy=False, nan=0.0)

    def invert(self, scaled: np.ndarray) -> np.ndarray:
        """The raw values (N,) of scaled float32 ones, without the digits that float32 lacks."""
        values = scaled * self.deviation + self.mean
        size = 1.0 if self.log else max(abs(self.mean), self.deviation)
        return (np.expm1(values) if self.log else values).round(6 - ceil(log10(size)))

    def interval(self, low: float, high: float, missing: bool) -> tuple[float, float]:
        """The ends of scaled values as float32, given the raw ends and whether some may be missing.

        Rounding never changes an order, so that rounded values lie between the rounded ends.
        """
        ends = (logged(np.array([low, high]), self.log) - self.mean) / self.deviation
        first, last = ends.astype(np.float32).tolist()
        return (min(first, 0.0), max(last, 0.0)) if missing else (first, last)


Scalers = Mapping[str, Scaler]
"""By dense column."""

NO_SCALERS: Scalers = MappingProxyType({})


@dataclass(frozen=True)
class Encoder:
    """Everything that is learnt from the training rows about the columns."""

    schema: Schema
    vocabularies: Mapping[str, Vocabulary | MultiValued]
    scalers: dict[str, Scaler]
    columns: Columns

    @classmethod
    def fit(
        cls,
        train: pd.DataFrame,
        columns: Columns,
        min_count: int = 1,
        history: int = 0,
        scalers: Scalers = NO_SCALERS,
    ) -> Encoder:
        """The vocabularies of the fields and the scalers of the dense columns of `train`.

        Columns that are in `scalers` keep the scaler that they have there.
        """
        separators = columns.value_separators
        vocabularies: dict[str, Vocabulary | MultiValued] = {
            name: MultiValued.fit(train[name], min_count, separators[name])
            if name in separators
            else Vocabulary.fit(train[name], min_count)
            for name in columns.fields
        }
        fitted = {
            name: scalers.get(name) or Scaler.fit(_numbers(train, name), name in columns.log)
            for name in columns.dense
        }
        schema = Schema(
            dense=columns.dense,
            fields=tuple(known.field(name) for name, known in vocabularies.items()),
            targets=tuple(
                _with_scale(target, _numbers(train, target.name))
                if target.kind == "rating"
                else target
                for target in columns.targets
            ),
            user=columns.user,
            item=columns.item,
            item_side=columns.item_fields,
            history_length=history,
            ranges=tuple(
                scaler.interval(*columns.ranges.get(name, (-inf, inf)), name in columns.missing_ok)
                for name, scaler in fitted.items()
            ),
            item_dense=columns.item_dense,
        )
        return cls(schema, vocabularies, fitted, columns)

    def encode(self, part: Part) -> Split:
        """The rows of `part` as tensors."""
        n = len(part.frame)
        ids = torch.empty(n, sum(field.values for field in self.schema.fields), dtype=torch.long)
        for offset, (name, known) in zip(
            self.schema.offsets, self.vocabularies.items(), strict=True
        ):
            columns = self.schema.id_columns(name)
            rows = known.encode(part.frame[name], offset).reshape(n, len(columns))
            ids[:, columns.start : columns.stop] = torch.from_numpy(rows)
        dense = torch.empty(n, len(self.scalers))
        for at, (name, scaler) in enumerate(self.scalers.items()):
            dense[:, at] = torch.from_numpy(scaler.apply(_numbers(part.frame, name)))
            check_finite(dense[:, at].numpy(), part.frame[name], scaler)
        targets = torch.tensor(part.labels, dtype=torch.float32).reshape(n, -1)
        query = None if part.query is None else torch.tensor(part.query)
        return Split(Batch(dense, ids, self._history(part.frame), targets), query)

    def _history(self, frame: pd.DataFrame) -> Tensor:
        """(N, T) int64: the global ids of the steps, newest last, 0 where there is none."""
        names = step_names(self.schema.history_length)
        history = torch.zeros(len(frame), len(names), dtype=torch.long)
        if not names:
            return history
        item = self.schema.item or ""
        offset = self.schema.offsets[self.schema.field_index(item)]
        assert offset > 0, "the user stands before the item, so that no item has the global id 0"
        for at, name in enumerate(names):
            rows = self.vocabularies[item].encode(frame[name], offset)
            history[:, at] = torch.from_numpy(np.where(frame[name].notna(), rows, 0))
        return history


def _with_scale(target: Target, ratings: np.ndarray) -> Target:
    """The task with mean and deviation of its ratings (N,); 1 if all of them are equal."""
    scaler = Scaler.fit(ratings, log=False)
    largest, constant = np.abs(ratings).max(), ratings.min() == ratings.max()
    least = max(FINEST * largest, 1 / LARGEST)
    if largest > LARGEST or not (constant or scaler.deviation >= least):
        raise ValueError(
            f"{target.name}: the training rows have mean {scaler.mean:.6g} and standard deviation "
            f"{scaler.deviation:.3g}, too large, too small or too close together for single "
            "precision; choose another unit, or subtract a constant"
        )
    return replace(target, mean=scaler.mean, deviation=scaler.deviation)


def pairwise_sum(read: Callable[[int, int], np.ndarray], start: int, n: int) -> np.float64:
    """The sum of n numbers, added up in the order of `numpy.sum`, but read piece by piece.

    NumPy halves a long array, the first half rounded down to a multiple of 8, and adds up the sums
    of the halves.
    """
    if n <= PAIRWISE:
        return np.sum(read(start, n), dtype=np.float64)
    half = n // 2 - n // 2 % 8
    return pairwise_sum(read, start, half) + pairwise_sum(read, start + half, n - half)


def _numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
    return frame[name].to_numpy(np.float64)


def check_finite(scaled: np.ndarray, raw: pd.Series, scaler: Scaler) -> None:
    """ValueError at the first value (N,) that is not finite when it is `scaled` (N,)."""
    wrong = ~np.isfinite(scaled)
    if wrong.any():
        value = raw.iloc[int(wrong.argmax())]
        raise ValueError(
            f"{raw.name}: {value} cannot be scaled; the training rows have the mean "
            f"{scaler.mean:.3g} and the deviation {scaler.deviation:.3g}; correct the value"
        )


def logged(values: np.ndarray, log: bool) -> np.ndarray:
    """The values or, where `log`, log(1 + x) of those that are not negative, and 0 of others."""
    return np.log1p(np.maximum(values, 0)) if log else values

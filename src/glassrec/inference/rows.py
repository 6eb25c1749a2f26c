"""New raw rows, checked and encoded by a run: from a frame or, in chunks, from a file.

Whatever the format, cells become text or numbers by the rules of training data, see `data.cells`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from glassrec.data.batch import Batch
from glassrec.data.cells import INTEGER, NUMBER, TEXT, split_values
from glassrec.data.columns import Part, check_names
from glassrec.data.encoding import Encoder, MultiValued
from glassrec.data.events import EARLIER, step_names
from glassrec.data.log_checks import moments
from glassrec.data.parquet import cast_columns
from glassrec.data.saved_encoder import value_type
from glassrec.data.text_file import Origin, frame_of
from glassrec.inference.opened_run import OpenedRun
from glassrec.inference.plain_cells import Wanted, typed_columns
from glassrec.inference.row_files import Chunk, Place, chunks

CHUNK = 16384
"""Rows at a time: as many as a run predicts at once, so that its numbers come back bit for bit."""

HISTORY = EARLIER
"""The column of a row that may hold its user's earlier items, oldest first: `a|b|c`, or a list."""

_KINDS = {"text": TEXT, "integer": INTEGER, "number": NUMBER}


class RawRows(NamedTuple):
    """N rows, in the order of their source."""

    frame: pd.DataFrame
    """all columns of the source, as they are there"""
    values: pd.DataFrame
    """the columns that the models read, as text or numbers, and those that others were looked up
    by; and, of sequence models, the items `history[-2]`, `history[-1]`"""
    batch: Batch
    """the encoded rows; their targets are zeros, and columns that the models do not read unseen"""
    unseen: np.ndarray
    """(N,) text: the values that training did not know, as `city=Oz; tags=a|b`, or ''"""
    start: int
    """how many rows of the source come before"""
    lines: Sequence[int]
    """(N,) their lines in the source; of parquet and frames, their numbers from 1"""


def read_rows(
    run: OpenedRun, source: Path | str, *, separator: str | None = None, chunk: int = CHUNK
) -> Iterator[RawRows]:
    """The rows of a file, some at a time, so that memory is bounded.

    Columns may stand in any order, and others beside them. Only those that the models read are
    needed; of these, columns that follow from the item may be missing where the catalogue has the
    item. A sequence model reads the user's earlier items from a column `history` or, without one,
    from the interactions that the run has kept, strictly before the row's time; without a time,
    all of them.

    Args:
        run: whose encoder reads the rows.
        source: a file of CSV, JSON lines or parquet, recognised by content; text may be compressed
            by gzip, bz2 or zstd. `-` is standard input.
        separator: of CSV cells, a character or a name as in `data.separator`; None is that of the
            run or, without one, that of the file's name.
        chunk: the largest number of rows at a time.

    Raises:
        ValueError: a column is missing, a line is ragged, or a cell is not of its column's type;
            the message names file, line and column.
    """
    encoder, start = RowEncoder(run), 0
    data: Mapping[str, Any] = run.run.config["data"]
    given, quotes = data.get("separator"), data.get("quotes")
    own = given if isinstance(given, str) and "${" not in given else None
    for each in chunks(source, encoder.wanted, separator or own, chunk, quotes=quotes is not False):
        yield encoder.encoded(each, start)
        start += len(each.frame)


def encode_frame(
    run: OpenedRun, frame: pd.DataFrame, source: str = "the frame", place: Place | None = None
) -> RawRows:
    """The rows of a frame of any types, with at least one row; see `read_rows`.

    Messages name the `source` and the row, or where the rows came from by `place`.
    """
    encoder = RowEncoder(run)
    place = place or Place(Path(source), lines=range(1, len(frame) + 1), unit="row")
    wanted = encoder.wanted([str(name) for name in frame], str(source))
    typed = {}
    for name, kind in wanted.types.items():
        column, own = frame[name], Wanted({name: kind}, wanted.lists)
        if column.dtype == object or isinstance(column.dtype, pd.CategoricalDtype):
            cells = column.astype(object).where(column.notna(), None).tolist()
            typed[name] = typed_columns({name: cells}, own, place)[name]
        else:
            table = pa.table({name: pa.chunked_array([pa.Array.from_pandas(column)])})
            typed[name] = cast_columns(table, own.types, place, own.lists)[name]
    return encoder.encoded(Chunk(frame, pa.table(typed), place), 0)


@dataclass(frozen=True)
class RowEncoder:
    """Makes tensors of the cells of raw rows, by the encoder of a run."""

    run: OpenedRun

    @cached_property
    def encoder(self) -> Encoder:
        """Of the run."""
        return self.run.encoder

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The types of the columns that make tensors, but for a history."""
        known = self.encoder.vocabularies
        fields = {name: _KINDS[value_type(each.values)] for name, each in known.items()}
        return fields | dict.fromkeys(self.encoder.columns.dense, NUMBER)

    def wanted(self, names: Sequence[str], source: str) -> Wanted:
        """The columns that are read from rows with columns of these names.

        Raises:
            ValueError: one is missing; the message begins with the source.
        """
        columns, needed, past = self.encoder.columns, {*self.run.reads.columns}, None
        if self.run.reads.history_length:
            past = HISTORY if HISTORY in names else columns.time
            needed |= {columns.user or ""} if past != HISTORY else set()
        absent = needed.intersection(columns.item_side).difference(names)
        if absent and columns.item in names:
            needed = needed - absent | {columns.item or ""}
        found = {name: kind for name, kind in self.types.items() if name in needed}
        if past is not None and past in names:
            found[past] = TEXT
        check_names([*found], [*names], source)
        return Wanted(found, (*columns.value_separators, HISTORY))

    def encoded(self, chunk: Chunk, start: int) -> RawRows:
        """The rows of a chunk, before which there are `start` others."""
        values = frame_of(chunk.cells, chunk.place)
        absent = [name for name in self.run.reads.columns if name not in values]
        if absent:  # they follow from the item, see `wanted`
            items = values[self.encoder.columns.item]
            side = self.run.items.side_of(items, absent, chunk.place)
            values = pd.concat([values, side], axis=1)
        self._check_numbers(values, chunk.place)
        values = self._with_steps(values, chunk.place)
        batch = self.tensors(values)
        unseen = self._unseen(values, batch)
        return RawRows(chunk.frame, values, batch, unseen, start, chunk.place.lines)

    def tensors(self, values: pd.DataFrame) -> Batch:
        """The tensors of typed rows; columns that are not there are unseen."""
        schema = self.encoder.schema
        whole = values.reindex(columns=[*self.types, *step_names(schema.history_length)])
        labels = np.zeros((len(values), len(schema.targets)), np.float32)
        return self.encoder.encode(Part(whole, labels)).batch

    def _check_numbers(self, values: pd.DataFrame, place: Origin) -> None:
        """ValueError at the first number that training would have refused, or that has no scale."""
        columns = self.encoder.columns
        for name, scaler in self.encoder.scalers.items():
            if name not in values:
                continue
            numbers = values[name].to_numpy(np.float64)
            allowed = np.isnan(numbers) if name in columns.missing_ok else False
            reason = ", not a finite number"
            if name not in columns.missing_ok:
                reason += ", and the training rows lack none"
            place.refuse_first(
                values[name], ~(np.isfinite(numbers) | allowed), f"{reason}; correct the value"
            )
            low, high = columns.ranges.get(name, (-np.inf, np.inf))
            reason = f", outside its range [{low}, {high}] in training; correct the value"
            place.refuse_first(values[name], (numbers < low) | (numbers > high), reason)
            with np.errstate(over="ignore"):
                wrong = ~np.isfinite(scaler.apply(numbers).astype(np.float32))
            reason = (
                f", too far from the training rows (mean {scaler.mean:.3g}, deviation "
                f"{scaler.deviation:.3g}) for single precision; correct the value"
            )
            place.refuse_first(values[name], wrong, reason)

    def _with_steps(self, values: pd.DataFrame, place: Origin) -> pd.DataFrame:
        """The rows with the earlier items of their users, if the model reads any."""
        schema, columns = self.encoder.schema, self.encoder.columns
        if not self.run.reads.history_length:
            return values
        if HISTORY in values:
            steps = self._given_steps(values.pop(HISTORY), place)
        else:
            times = None
            if columns.time is not None and columns.time in values:
                times = moments(values.pop(columns.time), place)
                self._check_times(times, place)
            users = values[schema.user]
            steps = self.run.interactions.histories(users, times, schema.history_length)
        return pd.concat([values, steps], axis=1)

    def _check_times(self, times: pd.Series, place: Origin) -> None:
        here = isinstance(times.dtype, pd.DatetimeTZDtype)
        if here != self.run.interactions.has_dates:
            found, needed = ("dates", "numbers") if here else ("numbers", "dates")
            raise ValueError(
                f"{place.at(0)}: the times in {self.encoder.columns.time} are {found}, and those "
                f"of the training data are {needed}; write them so"
            )

    def _given_steps(self, cells: pd.Series, place: Origin) -> pd.DataFrame:
        """The last items of cells `a|b|c`, oldest first."""
        length = self.encoder.schema.history_length
        known = self.encoder.vocabularies[self.encoder.schema.item or ""].values
        codes, texts = pd.factorize(cells)
        steps = np.full((len(texts), length), None, object)
        for at, text in enumerate(texts):
            items = [item for item in split_values(text, "|") if item][-length:]
            try:
                steps[at, length - len(items) :] = (
                    items
                    if value_type(known) == "text"
                    else [known.dtype.type(item) for item in items]
                )
            except ValueError:
                row = int((codes == at).argmax())
                raise ValueError(
                    f"{place.at(row)}: {HISTORY} is {text!r}, whose items are not all of the type "
                    f"of {self.encoder.schema.item}; correct the value"
                ) from None
        return pd.DataFrame(steps[codes], columns=step_names(length))

    def _unseen(self, values: pd.DataFrame, batch: Batch) -> np.ndarray:
        schema = self.encoder.schema
        found = np.full(len(values), "", object)
        for name in [name for name in schema.field_names if name in values]:
            known = self.encoder.vocabularies[name]
            ids = batch.ids[:, [*schema.id_columns(name)]].numpy()
            rows = np.flatnonzero((ids == schema.unseen_id(name)).any(1))
            codes, cells = pd.factorize(values[name].iloc[rows], use_na_sentinel=False)
            texts = np.array([f"{name}={_shown(cell, known)}" for cell in cells], object)
            if len(rows):
                gaps = np.where(found[rows] == "", "", "; ").astype(object)
                found[rows] = found[rows] + gaps + texts[codes]
        return found


def _shown(cell: Any, known: Any) -> str:
    """The unseen values of a cell."""
    if not isinstance(known, MultiValued):
        return str(cell)
    values = split_values(str(cell), known.separator)[: known.width]
    return known.separator.join(value for value in values if value not in known.values)

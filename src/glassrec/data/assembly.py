"""From raw rows to a dataset: audit, histories, division, encoding."""

from __future__ import annotations

import pandas as pd
import torch

from glassrec.data.audit import Audit, audit_log
from glassrec.data.audit_parts import with_parts
from glassrec.data.catalogue import Catalogue, Negatives
from glassrec.data.columns import Columns, Parts
from glassrec.data.dataset import Dataset
from glassrec.data.encoding import NO_SCALERS, Encoder, Scalers
from glassrec.data.events import Policy
from glassrec.data.history import check_past, with_history
from glassrec.data.saved_encoder import row_keys
from glassrec.data.sides import check_undeclared
from glassrec.data.splits import Splitter


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
) -> Dataset:
    """The dataset of a log.

    Args:
        frame: the whole log, with times as numbers.
        columns: the roles of its columns.
        split: divides its rows.
        seed: fixes random splits and evaluation candidates.
        negatives: how many negatives a training positive gets, where the split is ranked.
        min_count: how often a value must occur in training to get an id of its own.
        history: how many of the user's earlier items a row shows.
        duplicates: whether to drop second records of one event, see `events.duplicate_events`.
        repeats: whether to drop rows of an item that their user has before, see `events.repeats`.
        scalers: those that dense columns keep, see `Encoder.fit`.

    Raises:
        ValueError: the rows lack what the settings need, or would reveal held-out items.
    """
    frame, audit = audit_log(frame, columns, duplicates=duplicates, repeated=repeats)
    kept = duplicates == "keep" and repeats == "keep" and columns.time is None
    if kept and split.ranked and audit.has("duplicate events"):
        raise ValueError(
            "data.duplicates=keep: without a time column a second record of an event looks like a "
            "second event, and held-out items would be in training too; name a time column, or set "
            "data.duplicates=drop"
        )
    frame = with_history(frame, columns, history)
    parts = split.split(frame, columns, torch.Generator().manual_seed(seed))
    return assemble(
        parts,
        columns,
        negatives=negatives,
        min_count=min_count,
        history=history,
        audit=audit,
        scalers=scalers,
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
) -> Dataset:
    """The dataset of divided raw rows; see `build_dataset`.

    Args:
        parts: raw rows; where they are ranked, `negatives` are drawn for each training row.
        columns: the roles of the columns.
        negatives: how many negatives a training positive gets.
        min_count: how often a value must occur in training to get an id of its own.
        history: the steps that the rows have, see `with_history`.
        audit: the findings on the whole log; those on the parts are added.
        scalers: those that dense columns keep, see `Encoder.fit`.

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
    )

"""What in the division of a log into training, validation and test rows may mislead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from glassrec.data.cells import split_values
from glassrec.data.columns import Columns, Part, Parts
from glassrec.data.events import rows_of_both
from glassrec.data.findings import IDENTICAL, Audit, Finding

HANDFUL = 10
"""Rows of a class, or ranking lists, below which a split's metrics are mostly chance."""

TIED = 0.05
"""The share of held-out rows with a simultaneous row from which on their order is an anomaly."""


def with_parts(audit: Audit, parts: Parts, columns: Columns) -> Audit:
    """The audit of a log, with the findings on the rows as they are divided."""
    return replace(audit, findings=(*audit.findings, *_of_parts(audit, parts, columns)))


def _of_parts(audit: Audit, parts: Parts, columns: Columns) -> Iterator[Finding]:
    """The findings on the parts; no rows of two can be equal where none of the log are."""
    if parts.validation.query is None:
        yield from _shared(parts, columns) if audit.has(IDENTICAL) else ()
    else:
        yield from _unused(audit, parts)
        yield from _simultaneous(parts, columns)
    for part, called in zip(parts, ("train", "val", "test"), strict=True):
        yield from _classes(part, columns, called)
    yield from _wide_cells(parts, columns)


def _shared(parts: Parts, columns: Columns) -> Iterator[Finding]:
    """Held-out rows that equal a training row."""
    held = pd.concat([part.frame for part in parts[1:]])
    shared = rows_of_both(held, parts.train.frame, columns)
    if shared:
        message = f"{shared:,} of {len(held):,} validation and test rows equal a training row in "
        message += "all columns that are read"
        yield Finding("rows in two splits", message, shared, len(held))


def _unused(audit: Audit, parts: Parts) -> Iterator[Finding]:
    """Rows that leave-one-out puts in no part, as they would reveal a held-out one."""
    used = len(parts.train.frame) + sum(int((part.labels == 1).sum()) for part in parts[1:])
    if left := audit.kept - used:
        message = f"{left:,} of {audit.kept:,} rows are in no split: they record a held-out event "
        message += "again, or lie between a user's validation and test row"
        yield Finding("rows in no split", message, left, audit.kept, anomaly=False)


def _simultaneous(parts: Parts, columns: Columns) -> Iterator[Finding]:
    """Held-out rows that are last by file order only."""
    if columns.time is None or columns.user is None:
        return
    held = [part.frame[part.labels.ravel() == 1] for part in parts[1:]]
    test = held[1]
    names = [columns.user, columns.time]
    rows = pd.concat([part[names] for part in (parts.train.frame, *held)])
    users, known = pd.factorize(rows[columns.user])
    times = rows[columns.time].to_numpy(np.float64)
    before = len(rows) - len(test)
    newest = np.full(len(known), -np.inf)
    np.maximum.at(newest, users[:before], times[:before])
    tied = int((newest[users[before:]] == times[before:]).sum())
    if tied:
        message = f"{tied:,} of {len(test):,} test rows have the {columns.time} of another row of "
        message += f"their {columns.user}: that they are the last is by file order"
        yield Finding(
            "simultaneous held-out rows", message, tied, len(test), (columns.time,),
            anomaly=tied > TIED * len(test),
        )  # fmt: skip


def _classes(part: Part, columns: Columns, called: str) -> Iterator[Finding]:
    """A part in which a class is missing or rare."""
    if part.query is not None:
        lists = int((part.labels == 1).sum())
        if lists < HANDFUL:
            message = f"{called} has only {lists} ranking lists; its metrics are mostly chance"
            yield Finding("small splits", message, lists, lists)
        return
    labels = part.labels.reshape(len(part.frame), -1)
    for task, target in enumerate(columns.targets):
        if target.kind != "click" or target.name != columns.label:
            continue
        ones = int((labels[:, task] == 1).sum())
        rare = min(ones, len(labels) - ones)
        if rare < HANDFUL:
            message = f"{called} has {ones:,} rows of {target.name} 1 and {len(labels) - ones:,} "
            message += "of 0; "
            message += "few to learn from" if called == "train" else "its metrics are mostly chance"
            yield Finding("small splits", message, rare, len(labels), (target.name,))


def _wide_cells(parts: Parts, columns: Columns) -> Iterator[Finding]:
    """Held-out cells of more values than any training cell has, which are not all read."""
    for name in columns.several:
        separator = columns.value_separators[name]
        train, *held = (_widths(part.frame[name], separator) for part in parts)
        wide = int((np.concatenate(held) > train.max(initial=0)).sum())
        if wide:
            rows = sum(map(len, held))
            message = f"{wide:,} of {rows:,} validation and test cells of {name} hold more than "
            message += f"{train.max()} values, the most of a training cell; the rest is not "
            message += "read"
            yield Finding("truncated cells", message, wide, rows, (name,))


def _widths(column: pd.Series, separator: str) -> np.ndarray:
    """(N,) how many values each cell has."""
    codes, cells = pd.factorize(column)
    return np.array([*(len(split_values(cell, separator)) for cell in cells.astype(str)), 1])[codes]

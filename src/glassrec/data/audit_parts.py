"""Findings on the division of a log into training, validation and test rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from glassrec.data.audit import IDENTICAL, Audit, Finding, count_finding
from glassrec.data.cells import split_values
from glassrec.data.columns import Columns, Part, Parts
from glassrec.data.events import rows_of_both

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
    text = "validation and test rows equal a training row in all columns that are read"
    yield from count_finding("rows in two splits", shared, len(held), text)


def _unused(audit: Audit, parts: Parts) -> Iterator[Finding]:
    """Rows that leave-one-out puts in no part, as they would reveal a held-out one."""
    used = len(parts.train.frame) + sum(int((part.labels == 1).sum()) for part in parts[1:])
    text = "rows are in no split: they record a held-out event again, or lie between a user's "
    text += "validation and test row"
    yield from count_finding("rows in no split", audit.kept - used, audit.kept, text, anomaly=False)


def _simultaneous(parts: Parts, columns: Columns) -> Iterator[Finding]:
    """Held-out rows that are last by file order only."""
    if columns.time is None or columns.user is None:
        return
    names = [columns.user, columns.time]
    held = [part.frame.loc[part.labels.ravel() == 1, names] for part in parts[1:]]
    rows = pd.concat([parts.train.frame[names], *held])
    users, known = pd.factorize(rows[columns.user])
    times = rows[columns.time].to_numpy(np.float64)
    n = len(held[1])
    newest = np.full(len(known), -np.inf)
    np.maximum.at(newest, users[:-n], times[:-n])
    tied = int((newest[users[-n:]] == times[-n:]).sum())
    text = f"test rows have the {columns.time} of another row of their {columns.user}: that they "
    text += "are the last is by file order"
    check, anomaly = "simultaneous held-out rows", tied > TIED * n
    yield from count_finding(check, tied, n, text, columns.time, anomaly=anomaly)


def _classes(part: Part, columns: Columns, called: str) -> Iterator[Finding]:
    """A part in which a class is missing or rare."""
    if part.query is not None:
        lists = int((part.labels == 1).sum())
        if lists < HANDFUL:
            message = f"{called} has only {lists} ranking lists; its metrics are mostly chance"
            yield Finding("small splits", message, lists, lists)
    elif columns.label is not None:  # the first task
        labels = part.labels.reshape(len(part.frame), -1)[:, 0]
        n, ones = len(labels), int((labels == 1).sum())
        rare = min(ones, n - ones)
        if rare < HANDFUL:
            message = f"{called} has {ones:,} rows of {columns.label} 1 and {n - ones:,} of 0; "
            message += "few to learn from" if called == "train" else "its metrics are mostly chance"
            yield Finding("small splits", message, rare, n, (columns.label,))


def _wide_cells(parts: Parts, columns: Columns) -> Iterator[Finding]:
    """Held-out cells of more values than any training cell has, which are not all read."""
    for name in columns.several:
        separator = columns.value_separators[name]
        train, *held = (_widths(part.frame[name], separator) for part in parts)
        wide = int((np.concatenate(held) > train.max(initial=0)).sum())
        text = f"validation and test cells of {name} hold more than {train.max()} values, the most "
        text += "of a training cell; the rest is not read"
        yield from count_finding("truncated cells", wide, sum(map(len, held)), text, name)


def _widths(column: pd.Series, separator: str) -> np.ndarray:
    """(N,) how many values each cell has."""
    codes, cells = pd.factorize(column)
    return np.array([*(len(split_values(cell, separator)) for cell in cells.astype(str)), 1])[codes]

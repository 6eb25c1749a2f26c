"""Findings on a raw log and on its division that may make results misleading.

An anomaly is a finding that is worth a line in the terminal; the others are only recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from glassrec.data.cells import split_values
from glassrec.data.column_findings import (
    Finding,
    count_finding,
    field_findings,
    number_findings,
)
from glassrec.data.columns import Columns, Part, Parts
from glassrec.data.events import (
    Policy,
    duplicate_events,
    identical_rows,
    repeated_pairs,
    repeats,
    rows_of_both,
)
from glassrec.data.sides import Pairs, dependence

IDENTICAL = "identical rows"

HANDFUL = 10
"""Rows of a class, or ranking lists, below which a split's metrics are mostly chance."""

TIED = 0.05
"""The share of held-out rows with a simultaneous row from which on their order is an anomaly."""


@dataclass(frozen=True)
class Audit:
    """All findings on a log of `rows` raw rows, of which `kept` are divided."""

    rows: int
    kept: int
    findings: tuple[Finding, ...] = ()

    def has(self, check: str) -> bool:
        """Whether a check found something."""
        return any(found.check == check for found in self.findings)


def audit_log(
    frame: pd.DataFrame, columns: Columns, *, duplicates: Policy = "keep", repeated: Policy = "keep"
) -> tuple[pd.DataFrame, Audit]:
    """The rows that are left when duplicates or repeats are dropped, and the findings on all rows.

    Of duplicates (see `duplicate_events`) the first row in the file is kept; of a user's rows of
    one item (see `repeats`), the first in time. Rows keep their index.

    Raises:
        ValueError: repeats are to be dropped, and there is no user or no item column.
    """
    among = repeated_pairs(frame, columns)
    second = duplicate_events(frame, columns, among)
    again = repeats(frame, columns, among)
    identical = int(identical_rows(frame, columns, among).sum())
    findings = (
        *_events(columns, second, again, identical, duplicates, repeated),
        *_ties(frame, columns),
        *(found for name in columns.fields for found in field_findings(frame[name], columns)),
        *(found for name in columns.numbers for found in number_findings(frame[name], columns)),
        *_of_the_item(frame, columns),
    )
    left = np.ones(len(frame), bool)
    if duplicates == "drop":
        left &= ~second
    if repeated == "drop":
        if columns.user is None or columns.item is None:
            raise ValueError(
                f"data.repeats=drop: the data names no {'item' if columns.user else 'user'} "
                "column; name one, or set data.repeats=keep"
            )
        left &= ~again
    audit = Audit(len(frame), int(left.sum()), findings)
    return frame if left.all() else frame[left], audit


def _events(
    columns: Columns,
    second: np.ndarray,
    again: np.ndarray,
    identical: int,
    duplicates_are: Policy,
    repeats_are: Policy,
) -> Iterator[Finding]:
    n, duplicates = len(second), int(second.sum())
    pair = tuple(name for name in (columns.user, columns.item) if name)
    event = (*pair, columns.time) if columns.time else pair
    same = ", ".join(event) if columns.time else "all columns"
    done = "dropped; data.duplicates=keep keeps them" if duplicates_are == "drop" else "kept"
    text = f"rows record an event again (the same {same}): {done}"
    yield from count_finding("duplicate events", duplicates, n, text, *event)
    text = "rows equal an earlier row in all columns that are read"
    anomaly = not duplicates and columns.time is not None
    yield from count_finding(IDENTICAL, identical, n, text, anomaly=anomaly)
    text = "rows are of an item that the user has in another row"
    text += ": dropped" if repeats_are == "drop" else ""
    yield from count_finding("repeats", int((again & ~second).sum()), n, text, *pair, anomaly=False)


def _ties(frame: pd.DataFrame, columns: Columns) -> Iterator[Finding]:
    if columns.time is None or columns.user is None:
        return
    users, _ = pd.factorize(frame[columns.user])
    times, known = pd.factorize(frame[columns.time])
    tied = int(pd.Series(users * len(known) + times).duplicated().sum())
    names = (columns.user, columns.time)
    text = (
        f"rows have the {columns.time} of another row of their {columns.user}, so that neither is "
        "earlier"
    )
    yield from count_finding("timestamp ties", tied, len(frame), text, *names, anomaly=False)


def _of_the_item(frame: pd.DataFrame, columns: Columns) -> Iterator[Finding]:
    beside = {columns.user, columns.item, *columns.item_side}
    names = [name for name in (*columns.dense, *columns.fields) if name not in beside]
    if columns.user is None or columns.item is None or not names:
        return
    pairs = Pairs.from_log(frame, columns)
    n = len(pairs.rows)
    for name in names:
        found = dependence(frame[name], pairs)
        if found is not None:
            declared = name in columns.context
            message = f"{name} follows from {columns.item}: {found}"
            message += "; it is taken as context, as declared" if declared else ""
            check, count = "columns that follow from the item", round(found.share * n)
            yield Finding(check, message, count, n, (name,), anomaly=declared)


def with_parts(audit: Audit, parts: Parts, columns: Columns) -> Audit:
    """The audit of a log, with the findings on the rows as they are divided."""
    return replace(audit, findings=(*audit.findings, *_of_parts(audit, parts, columns)))


def _of_parts(audit: Audit, parts: Parts, columns: Columns) -> Iterator[Finding]:
    if parts.validation.query is None:
        yield from _shared(parts, columns) if audit.has(IDENTICAL) else ()
    else:
        yield from _unused(audit, parts)
        yield from _simultaneous(parts, columns)
    for part, called in zip(parts, ("train", "val", "test"), strict=True):
        yield from _classes(part, columns, called)
    yield from _wide_cells(parts, columns)


def _shared(parts: Parts, columns: Columns) -> Iterator[Finding]:
    held = pd.concat([part.frame for part in parts[1:]])
    yield from _shared_rows(rows_of_both(held, parts.train.frame, columns), len(held))


def _shared_rows(count: int, of: int) -> Iterator[Finding]:
    text = "validation and test rows equal a training row in all columns that are read"
    yield from count_finding("rows in two splits", count, of, text)


def _unused(audit: Audit, parts: Parts) -> Iterator[Finding]:
    used = len(parts.train.frame) + sum(int((part.labels == 1).sum()) for part in parts[1:])
    text = "rows are in no split: they record a held-out event again, or lie between a user's "
    text += "validation and test row"
    yield from count_finding("rows in no split", audit.kept - used, audit.kept, text, anomaly=False)


def _simultaneous(parts: Parts, columns: Columns) -> Iterator[Finding]:
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
    if part.query is not None:
        lists = int((part.labels == 1).sum())
        if lists < HANDFUL:
            message = f"{called} has only {lists} ranking lists; its metrics are mostly chance"
            yield Finding("small splits", message, lists, lists)
    elif columns.label is not None:  # the first task
        labels = part.labels.reshape(len(part.frame), -1)[:, 0]
        yield from _rare(len(labels), int((labels == 1).sum()), columns.label, called)


def _rare(n: int, ones: int, label: str, called: str) -> Iterator[Finding]:
    rare = min(ones, n - ones)
    if rare < HANDFUL:
        message = f"{called} has {ones:,} rows of {label} 1 and {n - ones:,} of 0; "
        message += "few to learn from" if called == "train" else "its metrics are mostly chance"
        yield Finding("small splits", message, rare, n, (label,))


def audit_of_blocks(
    columns: Columns,
    found: Iterable[Finding],
    equal: tuple[int, int],
    counts: Sequence[int],
    ones: Sequence[int],
) -> Audit:
    """The audit of rows without users, items and times that were read in blocks.

    Args:
        columns: their roles.
        found: the findings on their columns.
        equal: how many rows equal an earlier one, and how many held-out rows a training row.
        counts: of the rows of each split.
        ones: how many of them have the label 1.
    """
    rows = sum(counts)
    text = "rows equal an earlier row in all columns that are read"
    events = count_finding(IDENTICAL, equal[0], rows, text, anomaly=False)
    parts = [*_shared_rows(equal[1], sum(counts[1:]))] if equal[0] else []
    for n, own, called in zip(counts, ones, ("train", "val", "test"), strict=True):
        parts += _rare(n, own, columns.label or "", called)
    return Audit(rows, rows, (*events, *found, *parts))


def _wide_cells(parts: Parts, columns: Columns) -> Iterator[Finding]:
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

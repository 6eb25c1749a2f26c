"""What in a log may make results mean something else than they seem to: found once, on raw rows.

A finding is a count with a sentence. An anomaly is a finding that is worth a line in the terminal;
the others are only recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from glassrec.data.cells import LIST_MARK, split_values
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

BAR = "|"
"""The separator of cells of several values."""

FAR = 100.0
"""Robust standard deviations from the median from which on a number is an extreme outlier."""

HANDFUL = 10
"""Rows of a class, or ranking lists, below which a split's metrics are mostly chance."""

LONG = 20
"""Characters from which on a text may have been truncated."""

TIED = 0.05
"""The share of held-out rows with a simultaneous row from which on their order is an anomaly."""

IDENTICAL = "identical rows"
"""The check that says whether rows of two splits can be equal."""

SPELLINGS = {
    "'.0'": (r"\.0+$", ""),
    "leading zeros": (r"^0+(?=.)", ""),
    "blanks": (r"\s+", ""),
}
"""Differences that two exports of one id have: what is replaced by what."""


@dataclass(frozen=True)
class Finding:
    """One check that found something.

    Attributes:
        check: its name.
        message: what was found, as a sentence without a full stop.
        count: how many rows, values, cells or lists it is about.
        of: out of how many.
        columns: which columns it is about.
        anomaly: whether it is worth a line in the terminal.
    """

    check: str
    message: str
    count: int
    of: int
    columns: tuple[str, ...] = ()
    anomaly: bool = True


@dataclass(frozen=True)
class Audit:
    """All findings on a log of `rows` raw rows."""

    rows: int
    findings: tuple[Finding, ...] = ()

    def with_parts(self, parts: Parts, columns: Columns) -> Audit:
        """With what there is to say of the divided rows."""
        identical = any(found.check == IDENTICAL for found in self.findings)
        return Audit(self.rows, (*self.findings, *_of_parts(parts, columns, identical)))


def audited(
    frame: pd.DataFrame, columns: Columns, *, duplicates: Policy = "keep", repeated: Policy = "keep"
) -> tuple[pd.DataFrame, Audit]:
    """The rows that are left when duplicates or repeats are dropped, and the findings on all rows.

    Of duplicates the first row in the file is kept; of a user's rows of one item, the first in
    time. Rows keep their index.

    Args:
        frame: the whole log, as it was read, with times as numbers.
        columns: the roles of its columns.
        duplicates: what becomes of second records of an event, see `duplicate_events`.
        repeated: what becomes of rows of an item that their user took before, see `repeats`.

    Raises:
        ValueError: repeats are to be dropped, and there is no user or no item column.
    """
    among = repeated_pairs(frame, columns)
    second = duplicate_events(frame, columns, among)
    found = [
        *_events(frame, columns, among, second, duplicates),
        *_ties(frame, columns),
        *(found for name in columns.fields for found in _texts(frame[name], columns)),
        *(found for name in columns.numbers for found in _numbers(frame[name], columns)),
        *_of_the_item(frame, columns),
    ]
    left = ~second if duplicates == "drop" else np.ones(len(frame), bool)
    if repeated == "drop":
        if columns.user is None or columns.item is None:
            raise ValueError(
                "repeats are rows of one user and one item, and the data names no "
                f"{'user' if columns.user is None else 'item'} column; set data.repeats=keep, or "
                "name one"
            )
        left &= ~repeats(frame, columns, among)
    return frame if left.all() else frame[left], Audit(len(frame), tuple(found))


def _events(
    frame: pd.DataFrame, columns: Columns, among: np.ndarray, second: np.ndarray, policy: Policy
) -> Iterator[Finding]:
    """Duplicates, identical rows and repeats."""
    n, duplicates = len(frame), int(second.sum())
    if duplicates:
        event = [name for name in (columns.user, columns.item, columns.time) if name]
        same = ", ".join(event) if columns.time else "all columns"
        done = "dropped; data.duplicates=keep keeps them" if policy == "drop" else "kept"
        message = f"{duplicates:,} of {n:,} rows record an event again (the same {same}): {done}"
        yield Finding("duplicate events", message, duplicates, n, tuple(event))
    identical = int(identical_rows(frame, columns, among).sum())
    if identical:
        message = f"{identical:,} of {n:,} rows equal an earlier row in all columns that are read"
        anomaly = not duplicates and columns.time is not None
        yield Finding(IDENTICAL, message, identical, n, anomaly=anomaly)
    again = int(repeats(frame, columns, among).sum()) - duplicates
    if again > 0:
        message = f"{again:,} of {n:,} rows are of an item that the user has in another row"
        names = tuple(name for name in (columns.user, columns.item) if name)
        yield Finding("repeats", message, again, n, names, anomaly=False)


def _ties(frame: pd.DataFrame, columns: Columns) -> Iterator[Finding]:
    """Rows of one user at one time."""
    if columns.time is None or columns.user is None:
        return
    users, _ = pd.factorize(frame[columns.user])
    times, known = pd.factorize(frame[columns.time])
    tied = int(pd.Series(users * len(known) + times).duplicated().sum())
    if tied:
        message = f"{tied:,} of {len(frame):,} rows have the {columns.time} of another row of "
        message += f"their {columns.user}, so that neither is earlier"
        names = (columns.user, columns.time)
        yield Finding("timestamp ties", message, tied, len(frame), names, anomaly=False)


def _texts(column: pd.Series, columns: Columns) -> Iterator[Finding]:
    """What the distinct values of a field show."""
    name = str(column.name)
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return
    values = pd.Series(column.cat.categories)
    codes = column.cat.codes.to_numpy()
    if codes.min() == codes.max():
        value = "" if codes[0] < 0 else values[codes[0]]
        message = f"{name} is {value!r} in all rows" if value != "" else f"{name} is always empty"
        yield Finding("constant columns", message, len(column), len(column), (name,))
    if not pd.api.types.is_string_dtype(values.dtype):
        return
    if name in (columns.user, columns.item):
        yield from _spellings(values, name)
    yield from _separators(values, name, columns.value_separators.get(name))
    yield from _truncated(values, name)


def _spellings(values: pd.Series, name: str) -> Iterator[Finding]:
    """Ids that are one but for how they are written."""
    forms = {
        said: values.str.replace(pattern, by, regex=True)
        for said, (pattern, by) in SPELLINGS.items()
    }
    forms["upper and lower case"] = values.str.casefold()
    for said, form in forms.items():
        same = len(values) - form.nunique()
        # Case tells short random ids apart; where one id is written in two ways, many are.
        if same and (said in SPELLINGS or same > 0.05 * len(values)):
            message = f"{same:,} of {len(values):,} values of {name} differ from another only by "
            message += f"{said}; each is an id of its own: write them alike if they are one"
            yield Finding("ids that may be one", message, same, len(values), (name,))


def _separators(values: pd.Series, name: str, separator: str | None) -> Iterator[Finding]:
    """Lists that are not read as such, and the reverse; `separator` is that of a listed column."""
    values = values[values != ""]
    lists = int(values.str.contains(separator or BAR, regex=False).sum())
    if separator and not lists and not values.str.startswith(LIST_MARK).any():
        message = f"no cell of {name} holds {separator!r}, though it is listed under several"
        yield Finding("multi-value columns", message, 0, len(values), (name,))
    elif not separator and lists > len(values) / 2:
        message = f"{lists:,} of {len(values):,} values of {name} hold {BAR!r}; list it under "
        message += "several if they are lists"
        yield Finding("multi-value columns", message, lists, len(values), (name,))


def _truncated(values: pd.Series, name: str) -> Iterator[Finding]:
    """Many texts of exactly the greatest length, which few texts come near."""
    lengths = values.str.len().to_numpy()
    longest = int(lengths.max(initial=0))
    if longest < LONG:
        return
    full = int((lengths == longest).sum())
    near = int(((lengths < longest) & (lengths >= longest - 3)).sum())
    if full >= 5 and full > near and full <= len(values) / 2:
        message = f"{full:,} of {len(values):,} values of {name} have exactly {longest} "
        message += "characters, the most there are; they may be truncated"
        yield Finding("truncated cells", message, full, len(values), (name,))


def _numbers(column: pd.Series, columns: Columns) -> Iterator[Finding]:
    """Constant columns and extreme outliers."""
    name, n = str(column.name), len(column)
    values = column.to_numpy(np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        yield Finding("constant columns", f"{name} is missing in all rows", n, n, (name,))
        return
    if values.min() == values.max():
        message = f"{name} is {values[0]:g} wherever it is known"
        yield Finding("constant columns", message, len(values), n, (name,))
        return
    shown = np.log1p(values.clip(min=0)) if name in columns.log else values
    distance = _robust_distances(shown)
    far = int((distance > FAR).sum())
    if 0 < far <= 0.01 * len(values):
        at = int(distance.argmax())
        message = f"{far:,} of {n:,} values of {name} are extreme: {values[at]:g} lies "
        message += f"{distance[at]:,.0f} robust standard deviations from the median, "
        message += f"{np.median(values):g}, and the scale of the column follows it"
        yield Finding("extreme outliers", message, far, n, (name,))


def _robust_distances(values: np.ndarray) -> np.ndarray:
    """(N,) the distance from the median, in standard deviations of a normal distribution as the
    median distance or, where most values are equal, the mean distance of the nearer 99 % tells.
    """
    distance = np.abs(values - np.median(values))
    scale = 1.4826 * np.median(distance)
    if scale == 0:
        near = distance[distance <= np.quantile(distance, 0.99)]
        scale = 1.2533 * near.mean()
    return distance / scale if scale else np.zeros(len(values))


def _of_the_item(frame: pd.DataFrame, columns: Columns) -> Iterator[Finding]:
    """Columns that depend on the item and are not of its side."""
    beside = {columns.user, columns.item, *columns.item_side}
    names = [name for name in (*columns.dense, *columns.fields) if name not in beside]
    if columns.user is None or columns.item is None or not names:
        return
    pairs = Pairs.of(frame, columns)
    for name in names:
        found = dependence(frame[name], pairs)
        if found is not None:
            declared = name in columns.context
            message = f"{name} follows from {columns.item}: {found}"
            message += "; it is taken as context, as declared" if declared else ""
            count = round(found.share * len(pairs.rows))
            yield Finding(
                "columns that follow from the item", message, count, len(pairs.rows), (name,),
                anomaly=declared,
            )  # fmt: skip


def _of_parts(parts: Parts, columns: Columns, identical: bool) -> Iterator[Finding]:
    """What the division of the rows, some of them identical or none, shows."""
    if parts.validation.query is None:
        yield from _shared(parts, columns) if identical else ()
    else:
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
            message = f"{called} has {lists} ranking lists; its metrics are mostly chance"
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
            message += "of 0; its metrics are mostly chance"
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

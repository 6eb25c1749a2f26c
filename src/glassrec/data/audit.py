"""What in a log may make results mean something else than they seem to: found once, on raw rows.

`audit_parts` goes on with the divided rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from glassrec.data.cells import LIST_MARK
from glassrec.data.columns import Columns
from glassrec.data.events import (
    Policy,
    duplicate_events,
    identical_rows,
    repeated_pairs,
    repeats,
)
from glassrec.data.findings import IDENTICAL, Audit, Finding
from glassrec.data.sides import Pairs, dependence

BAR = "|"
"""The separator of cells of several values."""

FAR = 100.0
"""Robust standard deviations from the median from which on a number is an extreme outlier."""

LONG = 20
"""Characters from which on a text may have been truncated."""

SPELLINGS = {
    "'.0'": (r"\.0+$", ""),
    "leading zeros": (r"^0+(?=.)", ""),
    "blanks": (r"\s+", ""),
}
"""Differences that two exports of one id have: what is replaced by what."""


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
        *_events(frame, columns, among, second, duplicates, repeated),
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
    audit = Audit(len(frame), int(left.sum()), tuple(found))
    return frame if left.all() else frame[left], audit


def _events(
    frame: pd.DataFrame,
    columns: Columns,
    among: np.ndarray,
    second: np.ndarray,
    duplicates_are: Policy,
    repeats_are: Policy,
) -> Iterator[Finding]:
    """Duplicates, identical rows and repeats."""
    n, duplicates = len(frame), int(second.sum())
    if duplicates:
        event = [name for name in (columns.user, columns.item, columns.time) if name]
        same = ", ".join(event) if columns.time else "all columns"
        done = "dropped; data.duplicates=keep keeps them" if duplicates_are == "drop" else "kept"
        message = f"{duplicates:,} of {n:,} rows record an event again (the same {same}): {done}"
        yield Finding("duplicate events", message, duplicates, n, tuple(event))
    identical = int(identical_rows(frame, columns, among).sum())
    if identical:
        message = f"{identical:,} of {n:,} rows equal an earlier row in all columns that are read"
        anomaly = not duplicates and columns.time is not None
        yield Finding(IDENTICAL, message, identical, n, anomaly=anomaly)
    again = int((repeats(frame, columns, among) & ~second).sum())
    if again:
        message = f"{again:,} of {n:,} rows are of an item that the user has in another row"
        message += ": dropped" if repeats_are == "drop" else ""
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

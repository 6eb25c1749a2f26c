"""Checks of a raw log before anything is made of it: names, types, empty cells, and times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype

from glassrec.data.columns import Columns, check_names, check_values
from glassrec.data.sides import check_item_side
from glassrec.data.text_file import Origin

FRAME = Origin(Path("the data frame"), format=None)
"""The origin of rows that were not read from a file."""


def check_log(frame: pd.DataFrame, columns: Columns, origin: Origin) -> pd.DataFrame:
    """The log with numbers as numbers, and times as numbers or as dates in UTC.

    Raises:
        ValueError: at the first row that has no number, label, time, user or item where it needs
            one, a list in a cell, or another value of the item than before.
    """
    check_names(columns.stored, [*map(str, frame)], str(origin.path))
    frame = frame.copy(deep=False)
    for name in filter(None, (columns.label, *columns.numbers)):
        frame[name] = _numbers(frame[name], origin)
    check_values(frame, columns, origin)
    for name in (each for each in columns.fields if frame[each].dtype == object):
        lists = frame[name].map(lambda cell: isinstance(cell, list | tuple | np.ndarray))
        reason = "; a cell is text or a number: join the values by '|', and name it under several"
        origin.refuse_first(frame[name], lists.to_numpy(bool), reason)
    for name in filter(None, (columns.user, columns.item)):
        empty = (frame[name].isna() | (frame[name] == "")).to_numpy(bool)
        if empty.any():
            where = origin.at(int(empty.argmax()))
            raise ValueError(f"{where}: {name} is empty; correct or remove the line")
    check_item_side(frame, columns, origin)
    if columns.time is not None:
        frame[columns.time] = moments(frame[columns.time], origin)
    return frame


def _numbers(values: pd.Series, origin: Origin) -> pd.Series:
    """The values, of which missing ones are NaN; ValueError at the first that is no number."""
    if isinstance(values.dtype, np.dtype) and is_numeric_dtype(values):
        return values
    numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
    wrong = (numbers.isna() & values.notna()).to_numpy(bool)
    origin.refuse_first(values, wrong, ", not a number; correct the value")
    return numbers


def moments(values: pd.Series, origin: Origin) -> pd.Series:
    """Times as float64 or, where they are ISO 8601, as dates in UTC.

    Raises:
        ValueError: at the first that is neither, or not as the others.
    """
    if is_datetime64_any_dtype(values):
        origin.refuse_first(values, values.isna().to_numpy(), "; every row needs a time")
        zoned = getattr(values.dtype, "tz", None) is not None
        return values.dt.tz_convert("UTC") if zoned else values.dt.tz_localize("UTC")
    if isinstance(values.dtype, np.dtype) and is_numeric_dtype(values):
        origin.refuse_first(values, values.isna().to_numpy(), "; every row needs a time")
        return values  # whole numbers beyond 2^53 stay exact
    text = values.astype(str)
    times = pd.to_numeric(text, errors="coerce").astype(np.float64)
    bad = times.isna().to_numpy()
    if not bad.any():
        return times
    if not bad.all():  # numbers, then, and not dates
        reason = ", not a number as in other rows; correct or remove the line"
        origin.refuse_first(text, bad, reason)
    dates = pd.to_datetime(text, errors="coerce", format="ISO8601", utc=True)
    reason = ", not a time; write a number, or a date as in 2024-01-31T12:30:00, in all rows"
    origin.refuse_first(text, dates.isna().to_numpy(), reason)
    return dates

"""Findings on the values of single columns, and what a finding is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from glassrec.data.cells import LIST_MARK
from glassrec.data.columns import Columns

FAR = 100.0
"""Robust standard deviations from the median from which on a number is an extreme outlier."""

LONG = 20
"""Characters from which on a text may have been truncated."""

SPELLINGS = {
    "'.0'": (r"\.0+$", ""),
    "leading zeros": (r"^0+(?=.)", ""),
    "blanks": (r"\s+", ""),
}
"""Differences that two exports of one id have: the pattern, and its replacement."""


@dataclass(frozen=True)
class Finding:
    """One check that found something."""

    check: str
    message: str
    """a sentence without a full stop"""
    count: int
    """how many rows, values, cells or lists it is about, out of `of`"""
    of: int
    columns: tuple[str, ...] = ()
    anomaly: bool = True
    """whether it is worth a line in the terminal"""


def count_finding(
    check: str, count: int, of: int, text: str, *columns: str, anomaly: bool = True
) -> Iterator[Finding]:
    """A finding whose message begins with its count; none where nothing is counted."""
    if count:
        yield Finding(check, f"{count:,} of {of:,} {text}", count, of, columns, anomaly)


def field_findings(column: pd.Series, columns: Columns) -> Iterator[Finding]:
    """Findings on the distinct values of a field."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return
    values = pd.Series(column.cat.categories)
    codes = column.cat.codes.to_numpy()
    only = None
    if codes.min() == codes.max():
        only = "" if codes[0] < 0 else values[codes[0]]
    yield from text_findings(str(column.name), values, only, len(column), columns)


def text_findings(
    name: str, values: pd.Series, only: object, rows: int, columns: Columns
) -> Iterator[Finding]:
    """Findings on the distinct values of a field, of which all rows have `only`, if it is given."""
    if only is not None:
        message = f"{name} is {only!r} in all rows" if only != "" else f"{name} is always empty"
        yield Finding("constant columns", message, rows, rows, (name,))
    if not pd.api.types.is_string_dtype(values.dtype):
        return
    if name in (columns.user, columns.item):
        yield from _spellings(values, name)
    yield from _separators(values, name, columns.value_separators.get(name))
    yield from _truncated(values, name)


def _spellings(values: pd.Series, name: str) -> Iterator[Finding]:
    forms = {
        difference: values.str.replace(pattern, by, regex=True)
        for difference, (pattern, by) in SPELLINGS.items()
    }
    for difference, form in {**forms, "upper and lower case": values.str.casefold()}.items():
        same = len(values) - form.nunique()
        # A few short random ids differ in case alone; where one id has two spellings, many do.
        if difference in SPELLINGS or same > 0.05 * len(values):
            text = f"values of {name} differ from another only by {difference}; each is an id of "
            text += "its own: write them alike if they are one"
            yield from count_finding("ids that may be one", same, len(values), text, name)


def _separators(values: pd.Series, name: str, separator: str | None) -> Iterator[Finding]:
    """Lists that are not read as such, and the reverse; `separator` is that of a listed column."""
    values = values[values != ""]
    lists = int(values.str.contains(separator or "|", regex=False).sum())
    if separator and not lists and not values.str.startswith(LIST_MARK).any():
        message = f"no cell of {name} holds {separator!r}, though it is listed under several"
        yield Finding("multi-value columns", message, 0, len(values), (name,))
    elif not separator and lists > len(values) / 2:
        text = f"values of {name} hold '|'; list it under several if they are lists"
        yield from count_finding("multi-value columns", lists, len(values), text, name)


def _truncated(values: pd.Series, name: str) -> Iterator[Finding]:
    """Many texts of exactly the greatest length, with few texts slightly shorter."""
    lengths = values.str.len().to_numpy()
    longest = int(lengths.max(initial=0))
    if longest < LONG:
        return
    full = int((lengths == longest).sum())
    near = int(((lengths < longest) & (lengths >= longest - 3)).sum())
    if full >= 5 and full > near and full <= len(values) / 2:
        text = f"values of {name} have exactly {longest} characters, the most there are; they may "
        text += "be truncated"
        yield from count_finding("truncated cells", full, len(values), text, name)


def number_findings(column: pd.Series, columns: Columns) -> Iterator[Finding]:
    """Findings on the values of a dense column or a rating."""
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
    distance = _robust_distances(np.log1p(values.clip(min=0)) if name in columns.log else values)
    far = int((distance > FAR).sum())
    if 0 < far <= 0.01 * len(values):
        at = int(distance.argmax())
        text = f"values of {name} are extreme: {values[at]:g} lies {distance[at]:,.0f} robust "
        text += f"standard deviations from the median, {np.median(values):g}, and the scale of the "
        text += "column follows it"
        yield from count_finding("extreme outliers", far, n, text, name)


def _robust_distances(values: np.ndarray) -> np.ndarray:
    """(N,) the distance from the median, in standard deviations of a normal distribution with the
    same median distance or, where most values are equal, mean distance of the nearer 99 %.
    """
    distance = np.abs(values - np.median(values))
    scale = 1.4826 * np.median(distance)
    if scale == 0:
        near = distance[distance <= np.quantile(distance, 0.99)]
        scale = 1.2533 * near.mean()
    return distance / scale if scale else np.zeros(len(values))

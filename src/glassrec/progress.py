"""Progress of long work on standard error: rows done, rows per second, and the time left."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import TypeVar

from glassrec.processes import is_first

T = TypeVar("T")

FIRST_AFTER_SECONDS = 5.0
"""Seconds before the first line; shorter work shows none."""

LINE_EVERY_SECONDS = 30.0
"""Seconds between two lines in a file; a terminal's line is updated each second."""


def with_progress(
    parts: Iterable[tuple[int, T]], total: int | None, done: int = 0, unit: str = "rows"
) -> Iterator[T]:
    """Pass on the parts of pairs (number of rows, part), and report progress on standard error.

    An earlier process did the first `done` of `total` rows, or of another `unit`; `total` is None
    where it is not known.
    """
    terminal = sys.stderr.isatty()
    began, first, shown = perf_counter(), done, False
    due = began + FIRST_AFTER_SECONDS
    for rows, part in parts:
        yield part
        done += rows
        now = perf_counter()
        if now < due or not is_first():
            continue
        due, shown = now + (1.0 if terminal else LINE_EVERY_SECONDS), True
        pace = (done - first) / (now - began)
        rate = f"{pace:,.0f}" if pace >= 10 else f"{pace:.1f}"
        line = f"{done:,} {unit}, {rate} {unit}/s"
        if total is not None:
            left = clock((total - done) / pace)
            line = f"{done:,} of {total:,} {unit}, {rate} {unit}/s, {left} left"
        print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n",
              file=sys.stderr, flush=True)  # fmt: skip
    if terminal and shown:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """`0:42` or `1:05:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

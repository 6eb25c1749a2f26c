"""What long work tells of itself: rows done, rows a second, and the time that is left."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")

QUIET = 5.0
"""Seconds that pass before anything is told: short work needs no word."""

LINE = 30.0
"""Seconds between two lines in a file; a terminal's line is written over each second."""


def told(
    parts: Iterable[tuple[int, T]], total: int, done: int = 0, unit: str = "rows"
) -> Iterator[T]:
    """Hand on what `parts` gives, and tell on standard error how it goes.

    Args:
        parts: pairs of the number of rows that something took, and what it is.
        total: the number of all rows.
        done: how many of them an earlier process did.
        unit: what is counted, if not rows.
    """
    terminal = sys.stderr.isatty()
    began = perf_counter()
    last, first, shown = began + QUIET - (1.0 if terminal else LINE), done, False
    for rows, part in parts:
        yield part
        done += rows
        now = perf_counter()
        if now - last < (1.0 if terminal else LINE) or now - began < QUIET:
            continue
        last, shown = now, True
        pace = (done - first) / (now - began)
        rate = f"{pace:,.0f}" if pace >= 10 else f"{pace:.1f}"
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

"""What an audit of raw rows found, as plain values.

A finding is a count with a sentence. An anomaly is a finding that is worth a line in the terminal;
the others are only recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

IDENTICAL = "identical rows"
"""The check for rows that equal another in all columns."""


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
    """All findings on a log of `rows` raw rows, of which `kept` are divided."""

    rows: int
    kept: int
    findings: tuple[Finding, ...] = ()

    def has(self, check: str) -> bool:
        """Whether a check found something."""
        return any(found.check == check for found in self.findings)

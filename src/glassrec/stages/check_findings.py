"""The findings of a check of a finished run: differences, and lines about what passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pyarrow import ArrowException

from glassrec.prune.certificate import BrokenPromiseError

UNREADABLE = (RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, ArrowException)
"""Errors of calculations on values that no run has written."""


class Passed(str):
    """A line about a check that passed; it is printed if nothing differs."""


Finding = str | Passed
"""What a check gives: lines about all that differs, and lines for the case that nothing does."""


def problems_of(check: Callable[[], Iterator[Finding]]) -> list[str]:
    """All that differs; an error that a damaged file raises is a problem, too."""
    problems, passed = list[str](), list[str]()
    try:
        for finding in check():
            (passed if isinstance(finding, Passed) else problems).append(finding)
    except (ValueError, OSError, BrokenPromiseError) as error:
        problems.append(str(error))
    except UNREADABLE as error:  # files that can be read, and make no sense
        problems.append(f"the run cannot be computed again: {type(error).__name__}: {error}")
    for line in () if problems else passed:
        print(f"verify    {line}", flush=True)
    return problems

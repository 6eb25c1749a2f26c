"""Names in sentences: in a row, counted, and the nearest one to a misspelt name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

NAMED = 10
"""Names that a sentence can hold."""


def listed(words: Iterable[str], conjunction: str = "and") -> str:
    """`a, b and c`, of one word or more."""
    *most, last = words
    return f"{', '.join(most)} {conjunction} {last}" if most else last


def either(words: Iterable[str]) -> str:
    """`a, b or c`, of one word or more."""
    return listed(words, "or")


def brief(names: Iterable[str]) -> str:
    """`a, b and c`, or the first few and how many more."""
    every = [str(name) for name in names]
    if len(every) <= NAMED:
        return listed(every)
    return listed([*every[: NAMED - 1], f"{len(every) - NAMED + 1} more"])


def counted(count: int, name: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {name}{'s' if count != 1 else ''}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message, `; did you mean 'x'?`, or nothing where no name is near."""
    names = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold(), names, n=1)
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def one_of(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest name, then all there is to choose from."""
    names = list(known)
    return f"{did_you_mean(word, names)} (choices: {', '.join(names)})"

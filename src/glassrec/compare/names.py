"""Short names: of each, the end that no other has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def shortest(names: Sequence[Sequence[str]], least: Sequence[int] | None = None) -> list[int]:
    """How many of its last parts tell each name from all others.

    Args:
        names: the parts of each. Of two that are equal, and of one that is the end of another, all
            parts are needed.
        least: how many parts are wanted in any case, one each.
    """
    found = Counter(tuple(name[-depth:]) for name in names for depth in range(1, len(name) + 1))
    wanted = [1] * len(names) if least is None else least
    return [
        next((d for d in range(most, len(name)) if found[tuple(name[-d:])] == 1), len(name))
        for name, most in zip(names, wanted, strict=True)
    ]

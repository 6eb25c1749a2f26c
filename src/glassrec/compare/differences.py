"""In which settings runs differ, and how to say it in few letters."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glassrec.compare.directory import Found


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Equal for equal settings, and for no others."""
    return json.dumps(settings, sort_keys=True, default=str)


def varying(runs: Iterable[Found]) -> list[str]:
    """The settings of which the runs that have them have different values, in their order.

    A setting that some runs lack does not vary for that: it is another model's, or newer than the
    run. Only where runs would look the same and are not, what some of them lack counts.
    """
    distinct = list({fingerprint(run.settings): run.settings for run in runs}.values())
    found = {name for name in _order(distinct) if len(_values(name, distinct)) > 1}
    alike: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for settings in distinct:
        alike[fingerprint({n: v for n, v in settings.items() if n in found})].append(settings)
    for same in alike.values():
        found |= {n for n in _order(same) if not all(n in settings for settings in same)}
    return [name for name in _order(distinct) if name in found]


def _order(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for each in settings for name in each))


def _values(name: str, settings: Iterable[Mapping[str, Any]]) -> set[str]:
    return {repr(each[name]) for each in settings if name in each}


def labels(names: Sequence[str]) -> dict[str, str]:
    """Settings under the shortest end that no other of them has: `factors`, `method.steps`."""
    ends = shortest([name.split(".") for name in names])
    return {name: ".".join(end) for name, end in zip(names, ends, strict=True)}


def shortest(names: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The last parts of each that no other ends with; all, where there are no such.

    `seed_0` alone tells nothing: the part before it is kept.
    """
    found = Counter(tuple(name[-depth:]) for name in names for depth in range(1, len(name) + 1))
    ends = []
    for name in names:
        least = 1 + name[-1].startswith("seed_")
        alone = (d for d in range(least, len(name)) if found[tuple(name[-d:])] == 1)
        ends.append(name[-next(alone, len(name)) :])
    return ends


def usual(values: Sequence[str]) -> str | None:
    """What more than half of the values are; None where no value is."""
    ((value, count),) = Counter(values).most_common(1)
    return value if 2 * count > len(values) else None


def said(value: Any) -> str:
    """A setting as one would write it on the command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, separators=(",", ":"), default=str, ensure_ascii=False)

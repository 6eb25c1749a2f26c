"""Settings in a comparison: which of them differ, which matter, and their names and values."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glassrec.artifacts.pruning import EXACT, levels_of
from glassrec.report.formatting import shorten
from glassrec.report.run_record import RunRecord

SPLIT_SEED = "data.split.seed"
"""Runs that differ only in it are one setting, as those that differ only in their seed."""

WITHOUT_RESULT = (SPLIT_SEED, "prune.curves", "prune.chunk", "explain.memory", "evaluation")
"""Settings that change no model and no result."""

PROPOSING = ("explain.task", "explain.baseline", "explain.select", "explain.neurons")
"""Settings of an explanation that approximate pruning follows from."""

MAX_SHOWN_ALL = 3
"""If more settings vary, a label has only those that are not the usual ones."""


def relevant(settings: Mapping[str, Any], by: str) -> dict[str, Any]:
    """The settings (dotted names) that a comparison by a metric may depend on.

    Trained quality does not depend on the explanation, and a pruned model's quality only where the
    explanation proposes what is pruned.
    """
    level = settings.get("prune.level")
    return {name: value for name, value in settings.items() if _matters(name, level, by)}


def _matters(name: str, level: object, by: str) -> bool:
    if _below(name, WITHOUT_RESULT):
        return False
    if _below(name, ("explain",)):
        if by.startswith("explain/"):
            return True
        return by.startswith("pruned/") and level not in EXACT and _below(name, PROPOSING)
    levels = levels_of(name)
    return levels is None or level is None or level in levels


def _below(name: str, parents: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{parent}.") for parent in parents)


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Equal for equal settings, and for no others."""
    return json.dumps(settings, sort_keys=True, default=str)


def varying(runs: Iterable[RunRecord]) -> list[str]:
    """The settings of which the runs that have them have different values, in their order.

    A setting that some runs lack does not vary for that reason: it is another model's, or newer
    than the run. It counts only where runs would look the same without it and are not.
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


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Settings under the shortest end that no other of them has: `factors`, `method.steps`."""
    ends = shortest_ends([name.split(".") for name in names])
    return {name: ".".join(end) for name, end in zip(names, ends, strict=True)}


def shortest_ends(names: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The last parts of each that no other ends with; all, where there are none.

    `seed_0` alone identifies no run: the part before it is kept.
    """
    found = Counter(tuple(name[-depth:]) for name in names for depth in range(1, len(name) + 1))
    ends = []
    for name in names:
        least = 1 + name[-1].startswith("seed_")
        alone = (d for d in range(least, len(name)) if found[tuple(name[-d:])] == 1)
        ends.append(name[-next(alone, len(name)) :])
    return ends


def usual(values: Sequence[str]) -> str | None:
    """The value of more than half; None where there is none."""
    ((value, count),) = Counter(values).most_common(1)
    return value if 2 * count > len(values) else None


def value_text(value: Any) -> str:
    """A setting as on the command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, separators=(",", ":"), default=str, ensure_ascii=False)


def setting_labels(settings: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """`mlp · factors 16` for each setting: the values that vary, with their short `names`.

    Where many vary, the usual value is left out, as long as all labels differ.
    """
    texts = [{n: value_text(v) for n, v in each.items()} for each in settings]
    common = {name: usual([each.get(name, "") for each in texts]) for name in names}
    hidden = common if len(common) > MAX_SHOWN_ALL else {}
    brief, full = ([_label(each, names, h) for each in settings] for h in (hidden, {}))
    return brief if all(brief) and len({*brief}) == len(brief) else full


def _label(
    setting: Mapping[str, Any], names: Mapping[str, str], hidden: Mapping[str, str | None]
) -> str:
    parts = []
    for name, value in setting.items():
        text = value_text(value)
        if isinstance(value, str) and "." not in name:  # an option, such as `mlp`
            parts.append(shorten(text, 32))
        elif text != hidden.get(name):
            parts.append(shorten(f"{names[name]} {text}", 32))
    return " · ".join(parts) or ("" if hidden else "the only setting")

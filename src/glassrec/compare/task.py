"""Which runs can be ranked against each other: those evaluated on the same, by the same metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from glassrec.compare.differences import said, varying
from glassrec.compare.directory import Found
from glassrec.metrics.metadata import MONITORED, primary_metrics

LEARNING = ("negatives", "history", "min_count")
"""Settings of data that say what a model reads or learns from, not what it is evaluated on."""

_WEIGHTS = "objective.weights."


@dataclass(frozen=True)
class Key:
    """What runs of one task have in common."""

    data: str
    settings: tuple[tuple[str, str], ...]
    """those of the data that vary among all runs, without `LEARNING`, as one would write them"""
    files: str
    """the hashes of the data's files"""
    untrained: tuple[str, ...]
    """targets whose weight in the loss is 0"""
    metrics: tuple[str, ...]
    """those that tell most, without the split; none of a run that was not evaluated"""


def keys(runs: Sequence[Found]) -> dict[Key, list[Found]]:
    """Runs by their task. One without metrics joins those that agree in all that is known."""
    names = [name for name in varying(runs) if _of_evaluation(name)]
    found: dict[Key, list[Found]] = {}
    for run in sorted(runs, key=lambda run: not run.evaluated):
        key = _key(run, names)
        if not key.metrics:
            key = next((other for other in found if _agrees(key, other)), key)
        found.setdefault(key, []).append(run)
    return found


def _of_evaluation(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "data" and parts[-1] not in LEARNING


def _key(run: Found, names: Iterable[str]) -> Key:
    tests = [name.removeprefix("test/") for name in run.metrics if name.startswith("test/")]
    return Key(
        str(run.settings.get("data", "unknown data")),
        tuple((name, said(run.settings[name])) for name in names if name in run.settings),
        run.data,
        _untrained(run),
        tuple(primary_metrics(tests)),
    )


def _untrained(run: Found) -> tuple[str, ...]:
    zero = (name for name, weight in run.settings.items() if weight == 0)
    return tuple(sorted(n.removeprefix(_WEIGHTS) for n in zero if n.startswith(_WEIGHTS)))


def _agrees(bare: Key, other: Key) -> bool:
    return replace(bare, metrics=other.metrics, files=bare.files or other.files) == other


def titles(found: Sequence[Key]) -> dict[Key, str]:
    """What to call each task: its data, and in what it differs from others of the same data."""
    return {key: _title(key, [other for other in found if other.data == key.data]) for key in found}


def _title(key: Key, others: Sequence[Key]) -> str:
    """What differs is told; of the metrics, what there are."""
    parts = {
        "settings": [f"{name.removeprefix('data.')}={value}" for name, value in key.settings
                     if name != "data"],
        "files": [f"files {sha256(key.files.encode()).hexdigest()[:6]}"
                  if key.files else "no files"],
        "untrained": [f"without {', '.join(key.untrained)}" if key.untrained else "all targets"],
        "metrics": [", ".join(key.metrics) or "not evaluated"],
    }  # fmt: skip
    differ = [name for name in parts if len({getattr(other, name) for other in others}) > 1]
    words = [word for name in differ for word in parts[name]]
    return f"{key.data} ({'; '.join(words)})" if words else key.data


def default_metric(runs: Iterable[Found]) -> str:
    """What chose the best epochs of these runs; empty if none has a metric on validation."""
    found = [run for run in runs if any(name.startswith("val/") for name in run.metrics)]
    evaluated = [run for run in found if run.evaluated] or found
    if not evaluated:
        return ""
    monitor = evaluated[0].settings.get("trainer.monitor")
    same = all(run.settings.get("trainer.monitor") == monitor for run in evaluated)
    if same and all(monitor in [*run.metrics] for run in evaluated):
        return str(monitor)
    return _first_telling(evaluated[0])


def _first_telling(run: Found) -> str:
    """By the first target that is learnt, in the order of its data, which the history keeps."""
    columns: list[Any] = list(run.metrics if run.history is None else run.history)
    names = [name.removeprefix("val/") for name in columns if name.startswith("val/")]
    untrained = _untrained(run)
    for target in dict.fromkeys(name.rpartition("/")[0] for name in names):
        prefix = f"{target}/" if target else ""
        telling = [f"val/{prefix}{metric}" for metric in MONITORED if prefix + metric in names]
        if telling and target not in untrained:
            return telling[0]
    return next((name for name in run.metrics if name.startswith("val/")), "")

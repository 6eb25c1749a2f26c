"""A run directory, read as far as a table of runs needs it."""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

import yaml

from glassrec.compare.found import PROVEN, Found, facts
from glassrec.run import WHERE, at_work, flat, is_path

MARKS = ({"status.json"}, {"record.json"}, {"config.yaml", ".lock"})
"""Files, of which those of one set tell that a directory is a run."""

EXACT = ("domain", "data")
"""The levels at which it is proven that a unit does nothing."""

_NOT_SETTINGS = ("run", "tracker", "seed", "seeds")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path) -> Found | None:
    """The run in a directory; None if that is no run, or holds the runs of several seeds.

    A run whose files cannot be read is a run, with the reason: the others go on.
    """
    if not any(all((path / name).is_file() for name in mark) for mark in MARKS):
        return None
    try:
        config = yaml.load((path / "config.yaml").read_bytes(), _LOADER)
        if not isinstance(config, dict):
            raise ValueError("config.yaml is damaged: it holds no settings")
        return None if config.get("seeds") is not None else _found(path, config)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        return Found(path, "", "damaged", problem=problem)


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that say what was done, under dotted names.

    `model._target_` becomes `model`, the name of its class in small letters. Where the data lie
    makes no difference. What a model starts from does, by the name of that run, whatever the seed.
    """
    found: dict[str, Any] = {}
    for name, value in flat({k: v for k, v in config.items() if k not in _NOT_SETTINGS}).items():
        parent, _, last = name.rpartition(".")
        if last == "_target_":
            found[parent] = value.rpartition(".")[2].lower()
        elif is_path(value):
            if not name.startswith("data."):
                found[name] = _run_name(Path(value))
        elif last != "_partial_" and not (parent == "trainer" and last in WHERE):
            found[name] = value
    return found


def _run_name(path: Path) -> str:
    return path.parent.name if path.name.startswith("seed_") else path.name


def _found(path: Path, config: dict[str, Any]) -> Found:
    state, stage, problem = _state(path)
    return Found(
        path, "", state, stage, problem, settings(config), config.get("seed"), _metrics(path),
        _data(path),
    )  # fmt: skip


def _state(path: Path) -> tuple[str, str, str]:
    """State, stage and problem."""
    status = _facts(path / "status.json")
    if not status:  # it is, or ended, before its first stage
        running = at_work(path)
        return ("running", "", "") if running else ("failed", "", "it ended before any stage")
    state, stage = status["state"], status["stage"]
    if state == "running" and not at_work(path):
        return "crashed", stage, f"its process ended without a word, in {stage}"
    return state, stage, status.get("problem", "")


def _metrics(path: Path) -> dict[str, float]:
    found = _facts(path / "metrics.json") | _facts(path / "latency.json")
    certificate = _facts(path / "certificate.json")
    if certificate:
        found[PROVEN] = _proven(certificate)
    return {name: nan if value is None else float(value) for name, value in found.items()}


def _proven(certificate: dict[str, Any]) -> float:
    """`PROVEN`, of a certificate."""
    layers = certificate["layers"].values()
    units = sum(layer["before"] for layer in layers)
    if not certificate["exact"] or not units:
        return nan
    gone = [gone for layer in layers for gone in layer["gone"]]
    return sum(each["count"] for each in gone if each["level"] in EXACT) / units


def _data(path: Path) -> str:
    files = _facts(path / "provenance.json").get("data", {})
    return " ".join(f"{name}:{digest}" for name, digest in sorted(files.items()))


def _facts(path: Path) -> dict[str, Any]:
    """What a JSON file holds, nothing where there is none; ValueError if it is damaged."""
    return facts(path) if path.is_file() else {}

"""A run as its directory tells of it: what was set, how it ended, and what came of it.

Nothing here needs PyTorch, so that hundreds of runs are read in a few seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import nan
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from glassrec.config.aliases import current
from glassrec.run import WHERE, at_work, flat, is_path, refuse_changed_config

T = TypeVar("T")

MARKS = ({"status.json"}, {"record.json"}, {"config.yaml", ".lock"})
"""Files, of which those of one set tell that a directory is a run."""

PROVEN = "pruned/proven_share"
"""The share of all units that went and provably did nothing; NaN where a cut is not exact. It
stands among the metrics, and is made of the certificate."""

WORDS = ("player", "layer", "score", "folded")
"""Columns of tables that hold no numbers."""

_NOT_SETTINGS = ("run", "tracker", "seed", "seeds")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, eq=False)
class Found:
    """One run, or a job of a sweep that never made a directory."""

    path: Path
    """the run directory; of a job without one, where it should be, or the sweep's"""
    name: str
    """the end of the path that no other run has; of a job without a directory, what it was"""
    state: str
    """running, finished, failed, interrupted, stopped; crashed where it says running and no process
    works there; damaged where a file cannot be read; missing where a finished job's directory is
    gone; or what the sweep says of the job"""
    stage: str = ""
    """the stage that it came to"""
    problem: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    """dotted names, without the seed and what says where to work; None is a setting, too"""
    seed: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    """`metrics.json`, `latency.json` and `PROVEN`, as far as they are there"""
    data: str = ""
    """what its data files are, by their hashes; empty for data that need no file"""
    sweep: Path | None = None
    """the directory of the sweep that lists it"""
    log: Path | None = None
    """where the sweep wrote what it printed"""
    objectives: tuple[tuple[str, str], ...] = ()
    """of a search: each metric, and `minimize` or `maximize`"""
    values: tuple[float, ...] = ()
    """of a search's trial: what it came to, an objective each; empty if it did not end"""
    unreadable: list[str] = field(default_factory=list)
    """what was asked for since, and could not be read"""

    @property
    def evaluated(self) -> bool:
        """Whether there is a metric of the test split."""
        return any(name.startswith("test/") for name in self.metrics)

    @cached_property
    def history(self) -> pd.DataFrame | None:
        """A row an epoch: `epoch`, `train/loss`, the validation metrics in the order of tasks."""
        return self._read(
            "history.csv", lambda path: _having(pd.read_csv(path, dtype=float), "epoch")
        )

    @property
    def epochs(self) -> int | None:
        """How many epochs were trained; epoch 0, weights that training started from, is none."""
        return None if self.history is None else int((self.history["epoch"] > 0).sum())

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept: the one with the validation metrics of the run."""
        history = self.history
        if history is None or history.empty:
            return None
        there = [name for name in self.metrics if name.startswith("val/") and name in history]
        epochs = history[["epoch", *there]].to_numpy(dtype=float)
        distance = np.abs(epochs[:, 1:] - [self.metrics[name] for name in there]).sum(1)
        return int(epochs[np.argmin(distance), 0]) if there else None

    @cached_property
    def importance(self) -> pd.DataFrame | None:
        """A row a player: `player`, `mean_abs` and `q_value`, NaN where none was tested."""
        return self._read("importance.parquet", _importance)

    @cached_property
    def trusted(self) -> bool:
        """Whether the parts of the explanation add up, as far as they claim to."""
        found = self._read("explanation.json", facts)
        return found is None or found.get("trusted", True) is True

    @cached_property
    def neurons(self) -> pd.DataFrame | None:
        """A row a unit: `layer`, `mean_abs` and `max_abs`."""
        columns = ["layer", "mean_abs", "max_abs"]
        return self._read("neurons.parquet", partial(_parquet, columns=columns))

    def pruning_curves(self, metric: str) -> pd.DataFrame | None:
        """A row a cut: `score`, `share`, `folded`, `epochs` and a metric."""
        columns = ["score", "share", "folded", "epochs", metric]
        return self._read("pruning_curves.parquet", partial(_parquet, columns=columns))

    @cached_property
    def certificate(self) -> dict[str, Any] | None:
        """The fields of `artifacts.Certificate`, as JSON has them."""
        return self._read("certificate.json", facts)

    def table(self, name: str) -> pd.DataFrame | None:
        """Any table of the run, by the name of its file; of facts, it is one row."""
        found = self._read(f"{name}.json", facts)
        return self._read(f"{name}.parquet", _parquet) if found is None else pd.DataFrame([found])

    def _read(self, name: str, read: Callable[[Path], T]) -> T | None:
        """None where there is no such file; a damaged one is told of, and the others go on."""
        path = self.path / name
        if not path.is_file():
            return None
        try:
            return read(path)
        except (ValueError, pa.ArrowException, OSError) as error:
            self.unreadable.append(f"{path}: {error}")
            return None


def _importance(path: Path) -> pd.DataFrame:
    columns = ["player", "mean_abs"]
    tested = "q_value" in pq.read_schema(path).names
    frame = _parquet(path, [*columns, "q_value"] if tested else columns)
    return frame if tested else frame.assign(q_value=nan)


def _parquet(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """These columns of a table; all if none is named."""
    with pq.ParquetFile(path) as file:
        return _having(file.read(columns or None, use_threads=False).to_pandas(), *columns)


def _having(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table; ValueError where one of these is missing, or is to hold numbers and does not."""
    if missing := {*columns} - {*frame}:
        raise ValueError(f"it has no column {', '.join(sorted(missing))}")
    numbers = (frame[name] for name in columns if name not in WORDS and len(frame))
    if words := [str(each.name) for each in numbers if not pd.api.types.is_numeric_dtype(each)]:
        raise ValueError(f"not numbers in {', '.join(words)}")
    return frame


def facts(path: Path) -> dict[str, Any]:
    """What a JSON file holds under names, nothing where there is none; ValueError if damaged."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is damaged: it holds no names")
    return found


def read(path: Path) -> Found | None:
    """The run in a directory; None if that is no run, or holds the runs of several seeds.

    A run whose files cannot be read is a run, with the reason: the others go on.
    """
    try:
        if not any(all((path / name).is_file() for name in mark) for mark in MARKS):
            return None
        config = yaml.load((path / "config.yaml").read_bytes(), _LOADER)
        if not isinstance(config, dict):
            raise ValueError("config.yaml is damaged: it holds no settings")
        config = current(config)[0]
        return None if config.get("seeds") is not None else _found(path, config)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        return Found(path, "", "damaged", problem=problem)


def _found(path: Path, config: dict[str, Any]) -> Found:
    refuse_changed_config(path)
    state, stage, problem = _state(path)
    files = facts(path / "provenance.json").get("data", {})
    return Found(
        path, "", state, stage, problem, settings(config),
        None if config.get("seed") is None else int(config["seed"]), _metrics(path),
        " ".join(f"{name}:{digest}" for name, digest in sorted(files.items())),
    )  # fmt: skip


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
            path = Path(value)
            if not name.startswith("data."):
                found[name] = path.parent.name if path.name.startswith("seed_") else path.name
        elif last != "_partial_" and not (parent == "trainer" and last in WHERE):
            found[name] = value
    return found


def _state(path: Path) -> tuple[str, str, str]:
    """State, stage and problem."""
    status = facts(path / "status.json")
    if not status:  # it is, or ended, before its first stage
        running = at_work(path)
        return ("running", "", "") if running else ("failed", "", "it ended before any stage")
    state, stage = status["state"], status["stage"]
    if state == "running" and not at_work(path):
        return "crashed", stage, f"its process ended without a word, in {stage}"
    return state, stage, status.get("problem", "")


def _metrics(path: Path) -> dict[str, float]:
    found = facts(path / "metrics.json") | facts(path / "latency.json")
    certificate = facts(path / "certificate.json")
    if certificate:
        found[PROVEN] = _proven(certificate)
    return {name: nan if value is None else float(value) for name, value in found.items()}


def _proven(certificate: dict[str, Any]) -> float:
    """`PROVEN`, of a certificate."""
    gone, before = units(certificate)
    return gone / before if certificate["exact"] and before else nan


def units(certificate: Mapping[str, Any]) -> tuple[int, int]:
    """How many units went, and how many there were."""
    layers = certificate["layers"].values()
    gone = sum(each["count"] for layer in layers for each in layer["gone"])
    return gone, sum(layer["before"] for layer in layers)

"""One run as its directory tells of it: what was set, how it ended, and what came of it.

Nothing here needs PyTorch, so that hundreds of runs are read in a few seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

T = TypeVar("T")

PROVEN = "pruned/proven_share"
"""The share of all units that went and provably did nothing; NaN where a cut is not exact. It
stands among the metrics, and is made of the certificate."""


@dataclass(frozen=True, eq=False)
class Found:
    """One run, or a job of a sweep that never made a directory."""

    path: Path
    """the run directory; of a job without one, the sweep's"""
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
    sweep: str = ""
    """the name of the sweep that lists it"""
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

    @property
    def report(self) -> Path | None:
        """The page that tells the story of this run, if there is one."""
        path = self.path / "report.html"
        return path if path.is_file() else None

    @cached_property
    def history(self) -> pd.DataFrame | None:
        """A row an epoch: `epoch`, `train/loss`, the validation metrics in the order of tasks."""
        return self._read("history.csv", pd.read_csv)

    @cached_property
    def importance(self) -> pd.DataFrame | None:
        """A row a player: `player`, `mean_abs` with its bounds `_low` and `_high`, `rank`."""
        return self._table("importance", "player", "mean_abs", "mean_abs_low", "mean_abs_high",
                           "rank")  # fmt: skip

    @cached_property
    def neurons(self) -> pd.DataFrame | None:
        """A row a unit: `layer`, `unit`, `name`, `mean_abs`, `max_abs`, `zero_share`."""
        return self._table("neurons", "layer", "unit", "name", "mean_abs", "max_abs", "zero_share")

    @cached_property
    def pruning_curves(self) -> pd.DataFrame | None:
        """A row a cut: `score`, `draw`, `share`, `folded`, `epochs`, its size and test metrics."""
        return self._table("pruning_curves")

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept: the one with the validation metrics of the run."""
        history = self.history
        if history is None or history.empty:
            return None
        there = [name for name in self.metrics if name.startswith("val/") and name in history]
        kept = np.array([self.metrics[name] for name in there])
        distance = np.abs(history[there].to_numpy(dtype=float) - kept).sum(1)
        return int(history["epoch"].iloc[np.argmin(distance)]) if there else None

    @cached_property
    def certificate(self) -> dict[str, Any] | None:
        """The fields of `artifacts.Certificate`, as JSON has them."""
        return self._read("certificate.json", facts)

    @cached_property
    def explanation(self) -> dict[str, Any] | None:
        """The fields of `artifacts.Explanation`, as JSON has them."""
        return self._read("explanation.json", facts)

    def table(self, name: str) -> pd.DataFrame | None:
        """Any table of the run, by the name of its file; of facts, it is one row."""
        found = self._read(f"{name}.json", facts)
        return self._table(name) if found is None else pd.DataFrame([found])

    def _table(self, name: str, *columns: str) -> pd.DataFrame | None:
        """These columns of a table, as far as it has them; all if none is named."""

        def read(path: Path) -> pd.DataFrame:
            with pq.ParquetFile(path) as file:
                there = [column for column in columns if column in file.schema_arrow.names]
                return file.read(there or None, use_threads=False).to_pandas()

        return self._read(f"{name}.parquet", read)

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


def facts(path: Path) -> dict[str, Any]:
    """What a JSON file holds under names; ValueError if it is damaged."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is damaged: it holds no names")
    return found

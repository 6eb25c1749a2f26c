"""Runs as their directories tell of them: what was set, how it ended, and what came of it.

Nothing here needs PyTorch, so that hundreds of runs are read in a few seconds.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from glassrec.run import WHERE, flat, is_path

EXACT = ("domain", "data")
"""The levels at which it is proven that a unit does nothing."""

PROVEN = "pruned/proven_share"
"""The share of all units that went and provably did nothing; NaN where a cut is not exact. It
stands among the metrics, and is made of the certificate."""

_MARKS = ("status.json", "record.json", ".lock")
"""What tells a run directory from another one with a `config.yaml`."""

_NOT_SETTINGS = ("run", "tracker", "seed", "seeds")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, eq=False)
class Found:
    """One run, or a job of a sweep that never made a directory."""

    path: Path
    """the run directory; of a job without one, the sweep's"""
    name: str
    """the end of the path that no other run has; of a job without a directory, what it was"""
    state: str
    """running, finished, failed, interrupted, stopped; crashed where it says running and no process
    works there; damaged where a file cannot be read; or what the sweep says of the job"""
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
        path = self.path / "history.csv"
        try:
            return pd.read_csv(path) if path.is_file() else None
        except ValueError as error:
            return self._cannot_read(path, error)

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

    @cached_property
    def certificate(self) -> dict[str, Any] | None:
        """The fields of `artifacts.Certificate`, as JSON has them."""
        return self._facts("certificate.json")

    @cached_property
    def explanation(self) -> dict[str, Any] | None:
        """The fields of `artifacts.Explanation`, as JSON has them."""
        return self._facts("explanation.json")

    def _table(self, name: str, *columns: str) -> pd.DataFrame | None:
        path = self.path / f"{name}.parquet"
        if not path.is_file():
            return None
        try:
            with pq.ParquetFile(path) as file:
                there = [column for column in columns if column in file.schema_arrow.names]
                return file.read(there or None, use_threads=False).to_pandas()
        except (pa.ArrowException, OSError) as error:
            return self._cannot_read(path, error)

    def _facts(self, name: str) -> dict[str, Any] | None:
        try:
            return _json(self.path / name)
        except ValueError as error:
            return self._cannot_read(self.path / name, error)

    def _cannot_read(self, path: Path, error: Exception) -> None:
        self.unreadable.append(f"{path}: {error}")


def scan(directories: Sequence[Path]) -> list[Found]:
    """All runs in some directories, each once, in the order of their paths.

    Args:
        directories: each is a run, the directory of a sweep, or a folder with any of those in it,
            at any depth. A sweep's jobs count that never made a directory, too.

    Raises:
        ValueError: a directory does not exist, or there is no run in it.
    """
    found: dict[tuple[Path, str], Found] = {}
    for directory in directories:
        if not directory.is_dir():
            raise ValueError(f"{directory} is not a directory that exists")
        there = list(_within(directory.resolve(), set()))
        if not there:
            raise ValueError(
                f"{directory} holds no run: no directory in it, at any depth, has a config.yaml and "
                f"one of {', '.join(_MARKS)}, or a sweep.json"
            )
        for run in there:
            key = run.path, run.name
            # What a sweep says of its job is kept, whichever way the run is found first.
            found[key] = run if run.sweep or key not in found else found[key]
    return _named([found[key] for key in sorted(found)])


def _within(directory: Path, seen: set[Path]) -> Iterator[Found]:
    """The runs in a directory. A link may lead in a circle: no directory is entered twice."""
    if directory in seen:
        return
    seen.add(directory)
    if (directory / "sweep.json").is_file():
        yield from _of_sweep(directory)
    elif (run := _read(directory)) is not None:
        yield run
        return
    for inside in sorted(directory.iterdir()):
        if inside.is_dir() and not inside.name.startswith("."):
            yield from _within(inside.resolve(), seen)


def _read(path: Path) -> Found | None:
    """The run in a directory; None if that is no run, or holds the runs of several seeds."""
    if not any((path / mark).is_file() for mark in _MARKS):
        return None
    try:
        config = yaml.load((path / "config.yaml").read_bytes(), _LOADER)  # noqa: S506
        if not isinstance(config, dict):
            raise ValueError("it holds no settings")
        if config.get("seeds") is not None:
            return None
        known = _Known(path, config)
        return known.found()
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        return Found(path, "", "damaged", problem=reason)


@dataclass(frozen=True)
class _Known:
    """A run directory and its settings, on the way to what it is."""

    path: Path
    config: dict[str, Any]

    def found(self) -> Found:
        """All that is cheap to read."""
        state, stage, problem = self._state()
        return Found(
            self.path, "", state, stage, problem,
            settings=settings(self.config),
            seed=self.config.get("seed"),
            metrics=self._metrics(),
            data=self._data(),
        )  # fmt: skip

    def _state(self) -> tuple[str, str, str]:
        status = _json(self.path / "status.json")
        if status is None:  # it ended, or is, before its first stage
            running = _locked(self.path)
            return ("running", "", "") if running else ("failed", "", "no stage was begun")
        state = status["state"]
        if state == "running" and not _locked(self.path):
            return "crashed", status["stage"], "its process ended without a word"
        return state, status["stage"], status.get("problem", "")

    def _metrics(self) -> dict[str, float]:
        found: dict[str, float | None] = {}
        for name in ("metrics.json", "latency.json"):
            found |= _json(self.path / name) or {}
        certificate = _json(self.path / "certificate.json")
        if certificate is not None:
            found[PROVEN] = _proven(certificate)
        return {name: nan if value is None else float(value) for name, value in found.items()}

    def _data(self) -> str:
        files = (_json(self.path / "provenance.json") or {}).get("data", {})
        return " ".join(f"{name}:{digest}" for name, digest in sorted(files.items()))


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


def _proven(certificate: dict[str, Any]) -> float:
    """`PROVEN`, of a certificate."""
    layers = certificate["layers"].values()
    units = sum(layer["before"] for layer in layers)
    if not certificate["exact"] or not units:
        return nan
    gone = [gone for layer in layers for gone in layer["gone"]]
    return sum(each["count"] for each in gone if each["level"] in EXACT) / units


def _locked(path: Path) -> bool:
    """Whether a process works in a run directory."""
    lock = path / ".lock"
    if not lock.is_file():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _json(path: Path) -> dict[str, Any] | None:
    """The facts in a file, None if there is none; ValueError if it is damaged."""
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from None
    if not isinstance(facts, dict):
        raise ValueError(f"{path.name} is damaged: it holds no names")
    return facts


def _of_sweep(directory: Path) -> Iterator[Found]:
    """The runs of a sweep's jobs; a job that has none is listed all the same."""
    try:
        sweep = _json(directory / "sweep.json") or {}
        jobs = sweep["jobs"]
    except (ValueError, KeyError) as error:
        yield Found(directory, directory.name, "damaged", problem=f"sweep.json: {error}")
        return
    objectives = tuple((each["metric"], each["direction"]) for each in sweep.get("objectives", ()))
    for job in jobs:
        path = directory / job["run"] if job.get("run") else None
        runs = list(_within(path.resolve(), set())) if path is not None and path.is_dir() else []
        label = f"{directory.name} {job['number']} {job['label']}".strip()
        told = {
            "sweep": directory.name,
            "log": directory / job["log"] if job.get("log") else None,
            "objectives": objectives,
            "values": tuple(job.get("values") or ()),
        }
        for run in runs or [Found(path or directory, label, job["state"])]:
            # The run knows best how it ended, unless it had no time to say so.
            if run.state in ("crashed", "failed") and job["state"] not in ("finished", "running"):
                told |= {"state": job["state"], "problem": job.get("problem") or run.problem}
            yield replace(run, **told)


def _named(runs: list[Found]) -> list[Found]:
    """The runs, each with the end of its path that no other has; `seed_0` alone tells nothing."""
    ends: dict[str, int] = {}
    for run in runs:
        for depth in range(1, len(run.path.parts)):
            end = _end(run.path, depth)
            ends[end] = ends.get(end, 0) + 1
    return [run if run.name else replace(run, name=_shortest(run.path, ends)) for run in runs]


def _shortest(path: Path, ends: dict[str, int]) -> str:
    least = 2 if path.name.startswith("seed_") else 1
    depths = range(least, len(path.parts))
    return next((end for depth in depths if ends[end := _end(path, depth)] == 1), str(path))


def _end(path: Path, depth: int) -> str:
    return "/".join(path.parts[-depth:])

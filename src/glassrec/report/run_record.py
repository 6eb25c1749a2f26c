"""The results of one run as a frozen record, for report, comparison, tables and trackers.

Nothing here needs PyTorch, so that hundreds of runs are read in a few seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from glassrec.aliases import current
from glassrec.artifacts import (
    Artifact,
    Certificate,
    Explanation,
    Facts,
    File,
    Metrics,
    PrunePlan,
    StoredTable,
)
from glassrec.artifacts.file_list import (
    CERTIFICATE,
    CONFIG,
    DATA,
    EXPLANATION,
    FIGURES,
    HISTORY,
    IMPORTANCE,
    LATENCY,
    LOCK,
    METRICS,
    NEURONS,
    PLAN,
    PROVENANCE,
    PRUNING_CURVES,
    RECORD,
    STATUS,
    TRUTH,
)
from glassrec.run import RUNTIME_KEYS, flat, is_locked, is_path, refuse_changed_config
from glassrec.run.cut_directory import SHARED, run_of_cut

A = TypeVar("A", bound=Artifact)

MARKERS = ({STATUS}, {RECORD}, {CONFIG, LOCK})
"""A directory with the files of any of these sets is a run."""

CERTIFIED_SHARE = "pruned/proven_share"
"""The share of all neurons that an exact certificate removes; NaN where pruning was not exact. It
stands among the metrics, and is made of the certificate."""

REQUIRED = {
    HISTORY.name: ("epoch",),
    IMPORTANCE.name: ("player", "mean_abs"),
    NEURONS.name: ("layer", "mean_abs", "max_abs"),
    PRUNING_CURVES.name: ("score", "share", "folded", "epochs"),
}
"""Columns without which a table counts as damaged."""

TEXT_COLUMNS = ("player", "layer", "score", "folded")

NOT_SETTINGS = ("run", "tracker", "seed", "seeds", "figures")


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One run, or a job of a sweep that never made a directory. Files are read once, when needed.

    Where a file is damaged, a comparison notes that and goes on (`unreadable`); a record of a run
    that lists its files (`hashes`) raises ValueError.
    """

    path: Path
    """the run directory; of a job without one, where it should be, or the sweep's"""
    name: str = ""
    """the end of the path that no other run has; of a job without a directory, its label"""
    state: str = "finished"
    """as in `status.json`; crashed where that is running and no process works there; damaged where
    a file cannot be read; missing where a finished job has no directory; or as in the sweep"""
    stage: str = ""
    """the last stage"""
    problem: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    """nested, as `config.yaml`"""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """dotted names, without the seed and without directories; None is a setting, too"""
    seed: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """`metrics.json`, `latency.json` and `CERTIFIED_SHARE`, as far as they are there"""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    sweep: Path | None = None
    """the directory of the sweep that lists it"""
    log: Path | None = None
    """what it printed in its sweep"""
    objectives: tuple[tuple[str, str], ...] = ()
    """of a search: each metric, and `minimize` or `maximize`"""
    values: tuple[float, ...] = ()
    """of a search's trial: one value per objective; empty if it did not end"""
    hashes: Mapping[str, str] | None = None
    """the sha256 of each file that counts; None where every file of the directory counts"""
    contents: dict[str, Artifact | None] = field(default_factory=dict)
    """the files that were read, by name"""
    unreadable: list[str] = field(default_factory=list)
    """files that could not be read, with the reason"""

    @property
    def repetition(self) -> str | None:
        """The seeds of the split and of the run, which settings are paired by; None without any."""
        own = ((self.config.get("data") or {}).get("split") or {}).get("seed")
        return None if self.seed is None else f"{self.seed if own is None else own}/{self.seed}"

    @classmethod
    def open(cls, path: Path) -> RunRecord | None:
        """The run in a directory; None if that is no run, or holds the runs of several seeds.

        A run whose files cannot be read is a run, with the reason: the others go on.
        """
        try:
            if not any(all((path / name).is_file() for name in marker) for marker in MARKERS):
                return None
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            config = yaml.load((path / CONFIG).read_bytes(), loader)
            if not isinstance(config, dict):
                raise ValueError("config.yaml is damaged: it holds no settings")
            config = current(config)[0]
            if config.get("seeds") is not None:
                return None
            refuse_changed_config(path)
            provenance = read_object(path / PROVENANCE)
            seed = provenance.get("seed", config.get("seed"))  # it may be `${oc.env:SEED}` there
            return cls(
                path, "", *_state(path), config, dotted_settings(config),
                seed if isinstance(seed, int) else None, _metrics(path), provenance,
            )  # fmt: skip
        except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
            problem = " ".join(f"{type(error).__name__}: {error}".split())
            return cls(path, "", "damaged", problem=problem)

    @classmethod
    def of_files(
        cls, path: Path, config: Mapping[str, Any], provenance: Mapping[str, Any],
        hashes: Mapping[str, str],
    ) -> RunRecord:  # fmt: skip
        """A run at work: its settings as they may be shown, and the files that count."""
        metrics = _measured(path, [f for f in (METRICS, LATENCY) if f.name in hashes])
        return cls(path, config=config, metrics=metrics, provenance=provenance, hashes=hashes)

    def load(self, file: File[A]) -> A | None:
        """The content of a file; None where there is none, or where it is unreadable."""
        path, known = self.path / file.name, self.hashes is None or file.name in self.hashes
        if self.run is not None and file.stage in SHARED and self.hashes is not None:
            path = self.run / file.name  # the report of a cut takes them from there
        if file.name not in self.contents and known and path.is_file():
            try:
                content = file.content.load(path)
                if isinstance(content, StoredTable):
                    _require(content.frame, REQUIRED.get(file.name, ()))
                self.contents[file.name] = content
            except (ValueError, pa.ArrowException, OSError) as error:
                if self.hashes is not None:
                    raise
                self.unreadable.append(f"{path}: {error}")
                self.contents[file.name] = None
        return self.contents.get(file.name)  # type: ignore[return-value]

    def table(self, file: File[StoredTable]) -> pd.DataFrame | None:
        """A table; None where there is none."""
        content = self.load(file)
        return None if content is None else content.frame

    def rows(self, file: File[StoredTable]) -> pd.DataFrame:
        """A table; one without columns where there is none."""
        content = self.load(file)
        return pd.DataFrame() if content is None else content.frame

    def named_table(self, name: str) -> pd.DataFrame | None:
        """Any table, by the name of its file; a JSON object is one row."""
        facts = self.load(File(f"{name}.json", Facts, "", ""))
        if facts is not None:
            return pd.DataFrame([facts.values])
        return self.table(File(f"{name}.parquet", StoredTable, "", ""))

    @property
    def explanation(self) -> Explanation | None:
        """The metadata of the explanation."""
        return self.load(EXPLANATION)

    @property
    def trusted(self) -> bool:
        """Whether the explanation keeps its claim of completeness."""
        return self.explanation is None or self.explanation.trusted

    @property
    def plan(self) -> PrunePlan | None:
        """The pruning plan."""
        return self.load(PLAN)

    @property
    def certificate(self) -> Certificate | None:
        """The certificate of the pruning."""
        return self.load(CERTIFICATE)

    @property
    def data(self) -> Mapping[str, Any] | None:
        """The metadata of the data."""
        facts = self.load(DATA)
        return None if facts is None else facts.values

    @property
    def truth(self) -> Mapping[str, float]:
        """The ground-truth metrics of the explanation; empty where there is no ground truth."""
        content = self.load(TRUTH)
        return {} if content is None else content.values

    @cached_property
    def figures(self) -> dict[str, bytes]:
        """The figures as PNG, by name."""
        names = [name for name in self.hashes or () if name.startswith(FIGURES)]
        return {Path(name).stem: (self.path / name).read_bytes() for name in names}

    @property
    def run(self) -> Path | None:
        """Of a cut, the directory of its run."""
        return run_of_cut(self.path)

    @property
    def data_files(self) -> str:
        """The hashes of the data's files; empty for data that need no file."""
        files = self.provenance.get("data", {})
        return " ".join(f"{name}:{digest}" for name, digest in sorted(files.items()))

    @property
    def evaluated(self) -> bool:
        """Whether there is a metric of the test split."""
        return any(name.startswith("test/") for name in self.metrics)

    @property
    def epochs(self) -> int | None:
        """The number of trained epochs; epoch 0, the initial weights, does not count."""
        history = self.table(HISTORY)
        return None if history is None else int((history["epoch"] > 0).sum())

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept: the one with the validation metrics of the run."""
        history = self.table(HISTORY)
        if history is None or history.empty:
            return None
        there = [name for name in self.metrics if name.startswith("val/") and name in history]
        epochs = history[["epoch", *there]].to_numpy(dtype=float)
        distance = np.abs(epochs[:, 1:] - [self.metrics[name] for name in there]).sum(1)
        return int(epochs[np.argmin(distance), 0]) if there else None


def neuron_totals(certificate: Certificate) -> tuple[int, int]:
    """The numbers of pruned neurons, and of neurons before."""
    layers = certificate.layers.values()
    return sum(layer.count for layer in layers), sum(layer.before for layer in layers)


def pruned_share(certificate: Certificate) -> float:
    """The share of neurons that were pruned; 0 of a model without any."""
    pruned, before = neuron_totals(certificate)
    return pruned / before if before else 0.0


def dotted_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that results depend on, under dotted names.

    `model._target_` becomes `model`, the name of its class in small letters. The place of the data
    is no setting. A model that training starts from is one, by the name of its run, whatever the
    seed.
    """
    found: dict[str, Any] = {}
    for name, value in flat({k: v for k, v in config.items() if k not in NOT_SETTINGS}).items():
        parent, _, last = name.rpartition(".")
        if last == "_target_":
            found[parent] = value.rpartition(".")[2].lower()
        elif is_path(value):
            path = Path(value)
            if not name.startswith("data."):
                found[name] = path.parent.name if path.name.startswith("seed_") else path.name
        elif last != "_partial_" and not (parent == "trainer" and last in RUNTIME_KEYS):
            found[name] = value
    return found


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no file; ValueError if it is damaged."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is damaged: it holds no names")
    return found


def _state(path: Path) -> tuple[str, str, str]:
    status = read_object(path / STATUS)
    if not status:  # before its first stage
        running = is_locked(path)
        return ("running", "", "") if running else ("failed", "", "it ended before any stage")
    state, stage = status["state"], status["stage"]
    if state == "running" and not is_locked(path):
        return "crashed", stage, f"its process ended in {stage} without an error message"
    return state, stage, status.get("problem", "")


def _measured(path: Path, files: list[File[Metrics]]) -> dict[str, float]:
    contents = (file.content.load(path / file.name) for file in files)
    return {name: float(value) for each in contents for name, value in each.values.items()}


def _metrics(path: Path) -> dict[str, float]:
    found = _measured(path, [f for f in (METRICS, LATENCY) if (path / f.name).is_file()])
    if (path / CERTIFICATE.name).is_file():
        certificate = CERTIFICATE.content.load(path / CERTIFICATE.name)
        share = pruned_share(certificate) if certificate.exact else nan
        found[CERTIFIED_SHARE] = share if neuron_totals(certificate)[1] else nan
    return found


def _require(frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """ValueError where a column is missing, or is to hold numbers and does not."""
    if missing := {*columns} - {*frame}:
        raise ValueError(f"it has no column {', '.join(sorted(missing))}")
    numbers = (frame[name] for name in columns if name not in TEXT_COLUMNS and len(frame))
    if words := [str(each.name) for each in numbers if not pd.api.types.is_numeric_dtype(each)]:
        raise ValueError(f"not numbers in {', '.join(words)}")

"""What a run directory holds of the things that a report tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from glassrec.artifacts import Artifact, Certificate, Explanation, Facts, Metrics, PrunePlan, Table

FIGURES = "figures/"

READ: dict[str, type[Artifact]] = {
    "data.json": Facts,
    "history.csv": Table,
    "explanation.json": Explanation,
    "importance.parquet": Table,
    "neurons.parquet": Table,
    "completeness.parquet": Table,
    "pairs.parquet": Table,
    "methods.parquet": Table,
    "truth.json": Metrics,
    "plan.json": PrunePlan,
    "certificate.json": Certificate,
    "pruning_curves.parquet": Table,
    "metrics.json": Metrics,
    "latency.json": Metrics,
}
"""The artifacts that are read, beside the pictures."""

NOTHING = pd.DataFrame()


@dataclass(frozen=True)
class Found:
    """The artifacts of a run; None or empty where there is none."""

    config: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    """what the code says of the model and of the split"""
    data: Mapping[str, Any] | None = None
    about: Explanation | None = None
    plan: PrunePlan | None = None
    certificate: Certificate | None = None
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """by the name of their file, without its ending"""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """of `metrics.json`, `latency.json` and `truth.json`"""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG by name"""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """the sha256 of each artifact that is recorded"""

    def table(self, name: str) -> pd.DataFrame:
        """A table by name; an empty one without columns where there is none."""
        return self.tables.get(name, NOTHING)

    @property
    def model(self) -> str:
        """How the model is called."""
        return _class(self.config["model"])

    @property
    def source(self) -> str:
        """How the data is called: by its file if it has one."""
        data = self.config["data"]
        return Path(data["path"]).name if "path" in data else _class(data)


def needed(recorded: Collection[str]) -> list[str]:
    """Those of the recorded artifacts that a report is made of."""
    return sorted(name for name in recorded if name in READ or name.startswith(FIGURES))


def read(
    directory: Path,
    hashes: Mapping[str, str],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    words: Mapping[str, str],
) -> Found:
    """What the directory holds of the artifacts with these hashes."""
    there = {name: kind.load(directory / name) for name, kind in READ.items() if name in hashes}
    kinds: dict[type[Artifact], dict[str, Any]] = {}
    for name, artifact in there.items():
        kinds.setdefault(type(artifact), {})[Path(name).stem] = artifact
    pictures = [name for name in hashes if name.startswith(FIGURES)]
    return Found(
        config,
        provenance,
        words,
        data=kinds[Facts]["data"].values if Facts in kinds else None,
        about=there.get("explanation.json"),  # type: ignore[arg-type]
        plan=there.get("plan.json"),  # type: ignore[arg-type]
        certificate=there.get("certificate.json"),  # type: ignore[arg-type]
        tables={name: table.frame for name, table in kinds.get(Table, {}).items()},
        numbers={k: v for each in kinds.get(Metrics, {}).values() for k, v in each.values.items()},
        pictures={Path(name).stem: (directory / name).read_bytes() for name in pictures},
        hashes=hashes,
    )


def _class(node: Mapping[str, Any]) -> str:
    return str(node["_target_"]).rpartition(".")[2]

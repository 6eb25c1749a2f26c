"""Which units a cut takes, as planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from glassrec.artifacts.base import Artifact, read_json, write_json


@dataclass(frozen=True)
class LayerCut:
    """What a plan does to one layer; units are numbered as the layer was built."""

    built: int
    """units that the layer was built with"""
    kept: list[int]
    dropped: dict[str, list[int]]
    """by level: domain, data, sample or budget; an exact plan of level data also has units at
    level domain, those that nobody read before anything went"""
    constants: dict[int, float]
    """what readers put in the place of each dropped unit: what it always emitted at the levels
    domain and data, its mean at the levels sample and budget, or 0 if means are not folded"""
    proposed: int
    """units of zero conductance on the sample"""
    refuted: int
    """of those, the ones kept, as they are not constant"""
    tied: int
    """units kept though the level lets them go: a reader does more than weigh and add them"""
    stays: str
    """why the layer keeps all of its units, or its last one; empty if neither is so"""


@dataclass(frozen=True)
class PrunePlan(Artifact):
    """Which units go and what constants they leave, a layer, and how they were found."""

    level: str
    score: str
    """by which units were ranked, at level budget; empty at the others"""
    ground: str
    """what an exact level stands on, in words; empty at the others"""
    passes: int
    """how often the model was watched until nothing more became constant"""
    folded: bool
    """whether readers took over the means of what was cut, where a cut is not exact"""
    finetuned: bool
    """whether the smaller model was trained on: then its weights do not follow from the plan"""
    weights: str
    """sha256 of the tensors of the model that it is of, in the order of their names"""
    layers: dict[str, LayerCut]

    @property
    def dropped(self) -> int:
        """The number of units that go."""
        return sum(len(cut.constants) for cut in self.layers.values())

    @property
    def units(self) -> int:
        """The number of units before the cut."""
        return self.dropped + sum(len(cut.kept) for cut in self.layers.values())

    def save(self, path: Path) -> None:
        """Write JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON."""
        return read_json(path, lambda facts: cls(**(facts | {"layers": _cuts(facts["layers"])})))


def _cuts(layers: Mapping[str, Any]) -> dict[str, LayerCut]:
    cuts = {
        name: LayerCut(**(cut | {"constants": {int(u): c for u, c in cut["constants"].items()}}))
        for name, cut in layers.items()
    }
    for name, cut in cuts.items():
        if sorted(unit for units in cut.dropped.values() for unit in units) != sorted(
            cut.constants
        ):
            raise ValueError(f"it drops other units of {name} than it gives constants for")
    return cuts

"""What a cut did, as found on all rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import Any, Self

from glassrec.artifacts.base import Artifact, read_json, write_json


@dataclass(frozen=True)
class Gone:
    """Units of a layer that went at one level and left the same constant."""

    level: str
    constant: float
    count: int
    units: str
    """their names as the layer was built: `top.0[0-5, 9]`, `C3×C14, C3×C15`"""


@dataclass(frozen=True)
class CertifiedLayer:
    """What a cut did to one layer."""

    built: int
    """units that the layer was built with"""
    before: int
    """units that it had before the cut"""
    gone: list[Gone]

    @property
    def count(self) -> int:
        """The number of units that went."""
        return sum(gone.count for gone in self.gone)


@dataclass(frozen=True)
class Certificate(Artifact):
    """What a comparison of the large and the small model on all rows found."""

    level: str
    exact: bool
    """whether the level promises equality, and the comparison kept the promise"""
    ground: str
    """in words, how an exact level was proven"""
    rows: dict[str, int]
    """rows compared, a split"""
    max_abs_logit_difference: float
    """in float64"""
    p999_abs_logit_difference: float
    """the 99.9th percentile, in float64"""
    rows_changed: int
    """rows whose logit moved by more than `tolerance`"""
    max_abs_logit: float
    """the largest |logit| of the large model, in float64"""
    tolerance: float
    """the |Δlogit| up to which logits count as equal: 1e-9 of the largest |logit|, or of 1; of a
    rating, or of its standard deviation; each task has its own, and this is the largest"""
    layers: dict[str, CertifiedLayer]
    """which units went, by layer, input side first"""
    weights: str
    """`digest` of the large model's tensors"""
    pruned: str
    """`digest` of the small model's tensors"""
    files: dict[str, str]
    """sha256 of the files of both models and of the plan"""
    given: dict[str, dict[str, str]]
    """sha256 of what comes from outside: of the data's files, and of what the model started from"""
    splits: dict[str, str]
    """`digest` of each split's tensors, so that data made from settings has one too"""
    versions: dict[str, str]
    """of the packages that made the comparison"""

    def save(self, path: Path) -> None:
        """Write JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON; null is not a number."""
        return read_json(path, lambda facts: cls(**_certified(facts)))


def _certified(facts: dict[str, Any]) -> dict[str, Any]:
    missing = {name: nan for name, value in facts.items() if value is None}
    layers = {
        name: CertifiedLayer(**(layer | {"gone": [Gone(**gone) for gone in layer["gone"]]}))
        for name, layer in facts["layers"].items()
    }
    return facts | missing | {"layers": layers}

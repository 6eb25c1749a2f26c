"""What the certificates of a task's runs come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from glassrec.compare.found import Found
from glassrec.compare.shown import Shown


@dataclass(frozen=True)
class Certified:
    """A run whose cut has a certificate."""

    of: Shown
    run: Found
    facts: dict[str, Any]
    """the fields of `artifacts.Certificate`"""

    @property
    def units(self) -> int:
        """All units before the cut."""
        return sum(layer["before"] for layer in self.facts["layers"].values())

    @property
    def gone(self) -> int:
        """Those that went."""
        layers = self.facts["layers"].values()
        return sum(each["count"] for layer in layers for each in layer["gone"])

    @property
    def share(self) -> float:
        """The share of units that went; 0 of a model without any."""
        return self.gone / self.units if self.units else 0.0

    @property
    def rows(self) -> int:
        """How many rows were compared."""
        return sum(self.facts.get("rows", {}).values())

    @property
    def largest(self) -> float:
        """The largest |Δlogit|; NaN where the run did not compare the models."""
        return float(self.facts.get("max_abs_logit_difference", nan))

    @property
    def changed(self) -> float:
        """How many rows changed by more than rounding; NaN where they were not counted."""
        return float(self.facts.get("rows_changed", nan))

    @property
    def hash(self) -> str:
        """The first part of the sha256 of the pruned model's tensors."""
        return str(self.facts.get("pruned", ""))[:12]


def certified(best: Sequence[Shown]) -> Iterator[Certified]:
    """The runs of some settings that have a certificate."""
    for each in best:
        for run in each.runs:
            if run.certificate is not None:
                yield Certified(each, run, run.certificate)

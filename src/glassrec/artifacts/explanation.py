"""The facts of an explanation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import Any, Self

from glassrec.artifacts.base import Artifact, read_json, write_json


@dataclass(frozen=True)
class Explanation(Artifact):
    """What was explained and how, and how far the result can be trusted; titles are made of it."""

    method: str
    neurons: str
    """the method of the neurons"""
    baseline: str
    selection: str
    """which rows: `2,000 of 6,000 val rows at random`"""
    task: str
    rows: int
    mean_logit: float
    mean_baseline_logit: float
    relative_delta: float
    """mean |Σ parts − logit difference| over mean |logit difference|"""
    complete: bool
    """whether the method claims that its parts add up to the logit difference"""
    agreement: float | None
    """the mean rank correlation, over rows, of the parts of two seeds; None if nothing is drawn, or
    no row has parts that can be ranked"""
    rank_stability: float
    """the mean rank correlation of the importance on disjoint random parts of the rows; NaN where
    they rank nothing"""
    trusted: bool = True
    """false where the method claims completeness and the parts miss more than the tolerance"""
    constant: bool = False
    """whether the logit is the same on all explained rows and at the baseline, up to rounding"""
    unread: tuple[str, ...] = ()
    """the columns of the data that the model does not read"""

    def save(self, path: Path) -> None:
        """Write JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read JSON; null is not a number, but for the agreement, which may be None."""
        return read_json(path, lambda facts: cls(**_known(facts)))


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    missing = {name: nan for name, v in facts.items() if v is None and name != "agreement"}
    return facts | missing | {"unread": tuple(facts.get("unread", ()))}

"""Quality against the share that is cut, for every score beside its controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import pandas as pd
from annotated_types import Ge, Interval, MinLen
from torch import Tensor

from glassrec.models.base import Recommender
from glassrec.progress import with_progress
from glassrec.prune.budget import count, least
from glassrec.prune.scores import Evidence, Random, Score
from glassrec.prune.surgery import copied, without

Measure = Callable[[Recommender], Mapping[str, float]]
"""Numbers about a model by name: metrics, and what it costs."""

Tune = Callable[[Recommender, int], Recommender]
"""Trains a model on for some epochs."""


@dataclass(frozen=True)
class Curves:
    """What is tried.

    Args:
        scores: by which units are ranked, by a short name.
        shares: of the units of each layer that are cut; 0, the uncut model, is always among them.
        draws: how often a random order is drawn.
        unfolded: whether each cut is also made without folding means, so that its effect is seen.
        epochs: of training on, with which each cut is also made; 0 leaves that out.
    """

    scores: Annotated[Mapping[str, Score], MinLen(1)]
    shares: Annotated[Sequence[Annotated[float, Interval(ge=0, lt=1)]], MinLen(1)] = (
        0.0, 0.25, 0.5, 0.75, 0.9,
    )  # fmt: skip
    draws: Annotated[int, Ge(1)] = 3
    unfolded: bool = False
    epochs: Annotated[int, Ge(0)] = 0

    def of(self, evidence: Evidence, measure: Measure, tune: Tune) -> pd.DataFrame:
        """One row a cut of the evidence's model, at one blow.

        Columns: score, draw, share, folded, epochs, units (that are left in the layers that are
        cut), and what is measured.
        """
        tuned = {0: evidence.model}
        if self.epochs:
            tuned[self.epochs] = tune(deepcopy(evidence.model), self.epochs)
        uncut = {epochs: measure(model) for epochs, model in tuned.items()}
        cuts = [_Cut(order, share, way) for order in self._orders(evidence)
                for share in sorted({0.0, *self.shares}) for way in self._ways()]  # fmt: skip
        rows = []
        for cut in with_progress(((1, cut) for cut in cuts), len(cuts), unit="cuts"):
            small = cut.made(evidence)
            if cut.share and cut.way.epochs:
                small = tune(deepcopy(small), cut.way.epochs)
            found = measure(small) if cut.share else uncut[cut.way.epochs]
            rows.append(cut.about(small) | dict(found))
        return pd.DataFrame(rows)

    def _ways(self) -> list[_Way]:
        ways = [_Way(True, 0)]
        if self.unfolded:
            ways.append(_Way(False, 0))
        if self.epochs:
            ways.append(_Way(True, self.epochs))
        return ways

    def _orders(self, evidence: Evidence) -> Iterator[_Order]:
        for name, score in self.scores.items():
            for draw in range(self.draws if isinstance(score, Random) else 1):
                drawn = replace(evidence, seed=evidence.seed + draw) if draw else evidence
                yield _Order(name, draw, score.of(drawn))


class _Way(NamedTuple):
    """How a cut is made."""

    folded: bool
    epochs: int


class _Order(NamedTuple):
    """The worth of all units by one score."""

    score: str
    draw: int
    worth: Mapping[str, Tensor]


class _Cut(NamedTuple):
    """One point of a curve."""

    order: _Order
    share: float
    way: _Way

    def made(self, evidence: Evidence) -> Recommender:
        """The model without the units of the least worth."""
        goes = {
            name: least(worth, count(self.share, len(worth)))
            for name, worth in self.order.worth.items()
        }
        stand_ins = evidence.stand_ins(folded=self.way.folded)
        return without(copied(evidence.model), goes, stand_ins)

    def about(self, small: Recommender) -> dict[str, object]:
        """What was done, and how many units are left."""
        left = sum(len(small.layers[name].units) for name in self.order.worth)
        order = {"score": self.order.score, "draw": self.order.draw, "share": self.share}
        return order | self.way._asdict() | {"units": left}

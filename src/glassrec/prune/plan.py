"""Which units go, at which level of proof, and what constants they leave behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from glassrec.artifacts import LayerCut, PrunePlan, digest
from glassrec.models.base import Recommender
from glassrec.models.layers import PrunableLayer
from glassrec.prune.constants import Emitted
from glassrec.prune.surgery import precise

Level = Literal["domain", "data", "sample", "budget"]
"""domain: units that emit the same, or that nobody reads, whatever comes in; exact everywhere.
data: units that emit the same on every row; exact on those rows.
sample: units of zero conductance on the explained rows; what that is worth, the certificate says.
budget: units of the least worth by a score, as many as asked; likewise.
"""

LAST = "all of them could go, but no layer vanishes"
"""Why a layer keeps one unit, its first."""

Watch = Callable[[Recommender], Mapping[str, Emitted]]
"""What each unit of a model emits on the ground that a level stands on."""


@dataclass
class _Ledger:
    """What is known of one layer while a plan is made, by unit as the layer was built."""

    built: int
    proposed: set[int]
    dropped: dict[str, list[int]] = field(default_factory=dict)
    constants: dict[int, float] = field(default_factory=dict)
    tied: int = 0
    stays: str = ""

    def drop(self, layer: PrunableLayer, goes: Tensor, constants: Tensor, level: str) -> bool:
        """Drop units (U,) of a layer, write it down, and say whether anything went."""
        if goes.all():
            goes, self.stays = _all_but_one(goes), LAST
        if not goes.any():
            return False
        units = layer.units.tolist()
        gone = {units[i]: constants[i].item() for i in goes.nonzero().flatten().tolist()}
        self.constants |= gone
        self.dropped[level] = sorted([*self.dropped.get(level, ()), *gone])
        layer.keep((~goes).nonzero().flatten(), constants)
        return True

    def cut(self, layer: PrunableLayer) -> LayerCut:
        kept = layer.units.tolist()
        return LayerCut(
            built=self.built,
            kept=kept,
            dropped=self.dropped,
            constants=dict(sorted(self.constants.items())),
            proposed=len(self.proposed),
            refuted=len(self.proposed & set(kept)),
            tied=self.tied,
            stays=self.stays,
        )


class Draft:
    """A plan in the making, carried out on a copy of the model in float64.

    Args:
        model: in evaluation mode; it stays as it is.
        scores: neuron scores, see `artifacts.Table`: what is silent in them is proposed.
        stays: why a layer keeps all of its units, by its name; empty if it may be cut.
    """

    def __init__(self, model: Recommender, scores: pd.DataFrame, stays: Mapping[str, str]) -> None:
        self.weights = digest(model.state_dict())
        self.small = precise(model)
        silent = scores[scores["max_abs"] == 0].groupby("layer")["unit"].agg(set)
        self.ledgers = {
            name: _Ledger(layer.size, silent.get(name, set()), stays=stays[name])
            for name, layer in self.small.layers.items()
        }
        self.passes = 0

    def drop_unused(self, level: Level) -> None:
        """Drop what nobody reads, whatever it emits; and then what only that has read.

        Once a reader has gone at another level than domain, that it is unread stands on that.
        """
        more = True
        while more:
            more = False
            for name, layer in reversed(self._layers()):
                unused = ~layer.used
                more |= self._drop(name, unused, torch.zeros_like(unused).double(), level)

    def drop_constant(self, watch: Watch, level: Level) -> None:
        """Drop what always emits the same, to a fixed point.

        Folding a constant can show more units to be constant, where the rounding of sums had hidden
        it, and can leave others without a reader.
        """
        self.drop_unused("domain")
        more = True
        while more:
            found = watch(self.small)
            self.passes += 1
            went = []
            for name, layer in self._layers():
                if name not in found:
                    continue  # the model does not call it
                goes, constants = found[name].constant, found[name].low
                foldable = layer.foldable(constants)
                self.ledgers[name].tied = int((goes & ~foldable).sum())
                went.append(self._drop(name, goes & foldable, constants, level))
            more = any(went)
            self.drop_unused(level)

    def drop(self, goes: Mapping[str, Tensor], means: Mapping[str, Tensor], level: Level) -> None:
        """Drop units (U,) by layer and put `means` (U,) in their place."""
        for name, layer in self._layers():
            where = layer.units.device
            self._drop(name, goes[name].to(where), means[name].to(where), level)

    def plan(self, level: Level, *, score: str = "", ground: str = "", folded: bool) -> PrunePlan:
        """What was dropped so far."""
        layers = self.small.layers
        cuts = {name: ledger.cut(layers[name]) for name, ledger in self.ledgers.items()}
        return PrunePlan(
            level=level, score=score, ground=ground, passes=self.passes, folded=folded,
            finetuned=False, weights=self.weights, layers=cuts,
        )  # fmt: skip

    def proposed(self) -> dict[str, Tensor]:
        """(U,) by layer: the units that are silent in the scores."""
        found = {}
        for name, layer in self._layers():
            silent = self.ledgers[name].proposed
            found[name] = torch.tensor([unit in silent for unit in layer.units.tolist()])
        return found

    def _layers(self) -> list[tuple[str, PrunableLayer]]:
        return [(n, la) for n, la in self.small.layers.items() if not self.ledgers[n].stays]

    def _drop(self, name: str, goes: Tensor, constants: Tensor, level: str) -> bool:
        return self.ledgers[name].drop(self.small.layers[name], goes, constants, level)


def joined(first: PrunePlan, then: PrunePlan) -> PrunePlan:
    """The plan of two cuts, the second of which is of what the first has left."""
    layers = {}
    for name, earlier in first.layers.items():
        later = then.layers[name]
        levels = dict.fromkeys([*earlier.dropped, *later.dropped])
        layers[name] = replace(
            later,
            dropped={
                level: sorted([*earlier.dropped.get(level, ()), *later.dropped.get(level, ())])
                for level in levels
            },
            constants=dict(sorted((earlier.constants | later.constants).items())),
        )
    return replace(then, weights=first.weights, passes=first.passes + then.passes, layers=layers)


def _all_but_one(goes: Tensor) -> Tensor:
    """All units but the first."""
    return goes.index_fill(0, goes.new_zeros(1, dtype=torch.long), False)

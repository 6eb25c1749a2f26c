"""Which units an approximate cut takes: those of the least worth, as many as the budget says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glassrec.models.base import Recommender
from glassrec.prune.scores import Loss

Of = Literal["layer", "units", "parameters", "flops"]
"""layer: the same share of the units of each layer. The others rank the units of all layers
together, each layer's worth divided by its Euclidean norm (Molchanov et al., ICLR 2017), until the
share of the units, of the parameters or of the floating-point operations is gone."""

Goes = dict[str, Tensor]
"""By layer, (U,) bool: which units go. One unit of each layer stays."""

FINEST = 1 / 256
"""How closely the largest share within a loss of quality is found."""


@dataclass(frozen=True)
class Measures:
    """What other stages lend to pruning, which knows no loss and no metric."""

    loss: Loss | None = None
    """what training descended"""
    flops: Callable[[Recommender], float] | None = None
    """a row's floating-point operations"""
    lost: Callable[[Recommender], float] | None = None
    """how much worse a model is on the validation split than the one that is pruned"""


@dataclass(frozen=True)
class Budget:
    """How much goes.

    Args:
        share: how much; with `within`, the most.
        of: of what.
        within: what may be lost of the validation metric; None sets no such limit.
        whole: the model that `share` is a share of.
        measures: `flops` and `lost`, where they are needed.
    """

    share: float
    of: Of
    within: float | None
    whole: Recommender
    measures: Measures

    def goes(self, worth: Mapping[str, Tensor], cut: Callable[[Goes], Recommender]) -> Goes:
        """The units that go; where less than the share can go, all that can.

        Args:
            worth: of each layer's units, (U,); layers that are not named keep theirs.
            cut: makes the model without some units.

        Raises:
            ValueError: a measure is missing.
        """
        if self.within is None:
            return self._at(self.share, worth, cut)
        lost = self.measures.lost
        if lost is None:
            raise ValueError("prune.within needs a measure of what is lost; give one")
        share = largest(lambda s: lost(cut(self._at(s, worth, cut))), self.within, self.share)
        return self._at(share, worth, cut)

    def _at(
        self, share: float, worth: Mapping[str, Tensor], cut: Callable[[Goes], Recommender]
    ) -> Goes:
        layers = self.whole.layers
        had = {name: len(layers[name].units) for name in worth}
        gone = {name: had[name] - len(each) for name, each in worth.items()}
        if self.of == "layer":
            counts = {name: count(share, had[name]) - gone[name] for name in worth}
            return {name: least(each, counts[name]) for name, each in worth.items()}
        if self.of == "units":
            wanted = count(share, sum(had.values())) - sum(gone.values())
            possible = sum(len(each) - 1 for each in worth.values())
            return over_all_layers(worth, min(wanted, possible))
        return self._until(share, worth, lambda goes: self._cost(cut(goes)))

    def _cost(self, model: Recommender) -> float:
        if self.of == "parameters":
            return float(model.parameter_count)
        if self.measures.flops is None:
            raise ValueError("prune.of=flops needs a measure of them; give one")
        return self.measures.flops(model)

    def _until(
        self, share: float, worth: Mapping[str, Tensor], cost: Callable[[Goes], float]
    ) -> Goes:
        """The fewest of the weakest units with which the share is gone, found by halves.

        All but one of each layer where that is not enough.
        """
        aim = (1 - share) * self._cost(self.whole)
        few, many = 0, sum(len(each) - 1 for each in worth.values())
        while few < many:
            middle = (few + many) // 2
            enough = cost(over_all_layers(worth, middle)) <= aim
            few, many = (few, middle) if enough else (middle + 1, many)
        return over_all_layers(worth, many)


def least(worth: Tensor, number: int) -> Tensor:
    """(U,) bool: so many units of the least worth; of equals, the first."""
    goes = torch.zeros(len(worth), dtype=torch.bool)
    goes[worth.argsort(stable=True)[: max(number, 0)]] = True
    return goes


def over_all_layers(worth: Mapping[str, Tensor], number: int) -> Goes:
    """The `number` units of the least worth over all layers; the best of each layer stays."""
    if not worth:
        return {}  # no layer may be cut
    normal = []
    for each in worth.values():
        size = each.norm().clamp_min(torch.finfo(each.dtype).tiny)
        best = torch.zeros(len(each), dtype=torch.bool)
        best[each.argmax()] = True
        normal.append((each / size).masked_fill(best, torch.inf))
    goes = least(torch.cat(normal), number).split([len(each) for each in normal])
    return dict(zip(worth, goes, strict=True))


def largest(lost: Callable[[float], float], within: float, share: float) -> float:
    """The largest share, up to `share`, whose cut loses at most `within`.

    Quality need not fall steadily, so twenty shares are tried from the largest down, and then what
    lies above the first good one by halves.
    """
    tried = [share * k / 20 for k in range(20, 0, -1)]
    good = next((each for each in tried if lost(each) <= within), 0.0)
    bad = min(good + share / 20, share)
    while bad - good > FINEST:
        middle = (good + bad) / 2
        good, bad = (middle, bad) if lost(middle) <= within else (good, middle)
    return good


def count(share: float, units: int) -> int:
    """How many units a share is: rounded down, but .3 of 10 is 3."""
    return int(share * units + 1e-9)

"""Pruning to a budget: the neurons of the least importance, as many as the budget allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glassrec.models.base import Recommender
from glassrec.prune.importance import Loss

BudgetUnit = Literal["layer", "neurons", "parameters", "flops"]
"""layer: the same share of the neurons of each layer. The others rank the neurons of all layers
together, each layer's importance divided by its Euclidean norm (Molchanov et al., ICLR 2017), until
the share of the neurons, of the parameters or of the floating-point operations is pruned."""

PruneMask = dict[str, Tensor]
"""By layer, (U,) bool: which neurons are pruned. One neuron of each layer stays."""

FINEST_SHARE = 1 / 256
"""How closely the largest share within a loss of quality is found."""


@dataclass(frozen=True)
class Measures:
    """Measures of a model that pruning gets from other stages, where they are needed."""

    loss: Loss | None = None
    """that of training"""
    flops: Callable[[Recommender], float] | None = None
    """floating-point operations of a row"""
    metric_drop: Callable[[Recommender], float] | None = None
    """how much worse a model is on the validation split than the one that is pruned"""


@dataclass(frozen=True)
class Budget:
    """How much is pruned: a `share` of the `unit` of `reference_model`; with `max_metric_drop`, the
    allowed loss of the validation metric, at most the share.
    """

    share: float
    unit: BudgetUnit
    max_metric_drop: float | None
    reference_model: Recommender
    measures: Measures

    def mask(
        self, importance: Mapping[str, Tensor], prune: Callable[[PruneMask], Recommender]
    ) -> PruneMask:
        """The neurons to prune; where less than the share is prunable, all that are.

        `importance` (U,) is of each layer's neurons; layers that are not named keep theirs. `prune`
        makes the model without some neurons.

        Raises:
            ValueError: a measure is missing.
        """

        def at(share: float) -> PruneMask:
            return self._mask_at(share, importance, prune)

        if self.max_metric_drop is None:
            return at(self.share)
        drop, limit = self.measures.metric_drop, self.max_metric_drop
        if drop is None:
            raise ValueError("prune.max_metric_drop needs a measure of the metric's drop; give one")
        return at(largest_share(lambda share: drop(prune(at(share))), limit, self.share))

    def _mask_at(
        self,
        share: float,
        importance: Mapping[str, Tensor],
        prune: Callable[[PruneMask], Recommender],
    ) -> PruneMask:
        layers = self.reference_model.layers
        before = {name: len(layers[name].units) for name in importance}
        pruned = {name: before[name] - len(each) for name, each in importance.items()}
        if self.unit == "layer":
            counts = {n: neurons_of_share(share, before[n]) - pruned[n] for n in importance}
            return {n: least_important(each, counts[n]) for n, each in importance.items()}
        few, many = 0, sum(len(each) - 1 for each in importance.values())
        if self.unit == "neurons":
            wanted = neurons_of_share(share, sum(before.values())) - sum(pruned.values())
            return over_all_layers(importance, min(wanted, many))
        # The fewest of the least important neurons that make up the share, by bisection.
        aim = (1 - share) * self._cost(self.reference_model)
        while few < many:
            middle = (few + many) // 2
            enough = self._cost(prune(over_all_layers(importance, middle))) <= aim
            few, many = (few, middle) if enough else (middle + 1, many)
        return over_all_layers(importance, many)

    def _cost(self, model: Recommender) -> float:
        if self.unit == "parameters":
            return float(model.parameter_count)
        if self.measures.flops is None:
            raise ValueError("prune.budget_unit=flops needs a measure of them; give one")
        return self.measures.flops(model)


def least_important(importance: Tensor, number: int) -> Tensor:
    """(U,) bool: so many neurons of the least importance; of equals, the first."""
    mask = torch.zeros(len(importance), dtype=torch.bool)
    mask[importance.argsort(stable=True)[: max(number, 0)]] = True
    return mask


def over_all_layers(importance: Mapping[str, Tensor], number: int) -> PruneMask:
    """The `number` least important neurons over all layers; the best of each layer stays."""
    if not importance:
        return {}  # no layer is prunable
    normal = []
    for each in importance.values():
        size = each.norm().clamp_min(torch.finfo(each.dtype).tiny)
        best = torch.zeros(len(each), dtype=torch.bool)
        best[each.argmax()] = True
        normal.append((each / size).masked_fill(best, torch.inf))
    masks = least_important(torch.cat(normal), number).split([len(each) for each in normal])
    return dict(zip(importance, masks, strict=True))


def largest_share(drop: Callable[[float], float], limit: float, share: float) -> float:
    """The largest share, up to `share`, at which the metric drops by at most `limit`.

    Quality need not fall steadily: twenty shares are tried from the largest down, and then
    bisected.
    """
    tried = [share * k / 20 for k in range(20, 0, -1)]
    good = next((each for each in tried if drop(each) <= limit), 0.0)
    bad = min(good + share / 20, share)
    while bad - good > FINEST_SHARE:
        middle = (good + bad) / 2
        good, bad = (middle, bad) if drop(middle) <= limit else (good, middle)
    return good


def neurons_of_share(share: float, neurons: int) -> int:
    """How many neurons a share is: rounded down, but .3 of 10 is 3."""
    return int(share * neurons + 1e-9)

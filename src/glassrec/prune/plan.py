"""A plan: which neurons are pruned, by which guarantee, and which constants replace them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from glassrec.artifacts import LayerPlan, PrunePlan, digest
from glassrec.models.base import Recommender
from glassrec.models.layers import PrunableLayer
from glassrec.prune.guarantees.ranges import ActivationRange
from glassrec.prune.precision import to_float64

Level = Literal["domain", "data", "sample", "budget"]
"""domain: neurons that are constant, or unused, whatever the input; exact everywhere.
data: neurons that are constant on every row; exact on those rows.
sample: neurons of zero conductance on the explained rows; the certificate measures the effect.
budget: neurons of the least importance, as many as asked; likewise.
"""

LAST = "all of them could be pruned, but a layer keeps one"
"""Why a layer keeps a neuron, its first."""

FindRanges = Callable[[Recommender], Mapping[str, ActivationRange]]
"""The range of each neuron's activations, by layer, over all rows or over all inputs."""


@dataclass
class LayerState:
    """One layer while a plan is made; neurons are numbered as the layer was built."""

    built: int
    proposed: set[int]
    dropped: dict[str, list[int]] = field(default_factory=dict)
    constants: dict[int, float] = field(default_factory=dict)
    blocked_by_consumer: int = 0
    not_prunable_reason: str = ""

    def prune(self, layer: PrunableLayer, mask: Tensor, constants: Tensor, level: str) -> bool:
        """Prune neurons (U,) of the layer and record them; whether any was pruned."""
        if mask.all():
            mask, self.not_prunable_reason = mask.clone(), LAST
            mask[0] = False
        if not mask.any():
            return False
        units = layer.units.tolist()
        pruned = {units[i]: constants[i].item() for i in mask.nonzero().flatten().tolist()}
        self.constants |= pruned
        self.dropped[level] = sorted([*self.dropped.get(level, ()), *pruned])
        layer.keep((~mask).nonzero().flatten(), constants)
        return True

    def result(self, layer: PrunableLayer) -> LayerPlan:
        """The plan of this layer."""
        kept = layer.units.tolist()
        return LayerPlan(
            built=self.built,
            kept=kept,
            dropped=self.dropped,
            constants=dict(sorted(self.constants.items())),
            proposed=len(self.proposed),
            refuted=len(self.proposed & set(kept)),
            tied=self.blocked_by_consumer,
            stays=self.not_prunable_reason,
        )


class PlanBuilder:
    """Makes a plan by pruning a copy of the model in float64.

    Args:
        model: in evaluation mode; it stays as it is.
        scores: neuron scores, see `file_list.NEURONS`; neurons of zero attribution are proposed.
        reasons: by layer, why it keeps all of its neurons; empty if it is prunable.
    """

    def __init__(
        self, model: Recommender, scores: pd.DataFrame, reasons: Mapping[str, str]
    ) -> None:
        self.weights = digest(model.state_dict())
        self.small = to_float64(model)
        proposed = scores[scores["max_abs"] == 0].groupby("layer")["unit"].agg(set)
        self.states = {
            name: LayerState(
                layer.size, proposed.get(name, set()), not_prunable_reason=reasons[name]
            )
            for name, layer in self.small.layers.items()
        }
        self.passes = 0

    def prune_unused(self, level: Level) -> None:
        """Prune neurons without any effect, and then those that only such neurons have read.

        Once a consumer was pruned at a level, that a neuron is unused rests on that level.
        """
        more = True
        while more:
            more = False
            for name, layer in reversed(self._prunable()):
                unused = ~layer.used
                more |= self._prune(name, unused, torch.zeros_like(unused).double(), level)

    def prune_constant(self, find_ranges: FindRanges, level: Level) -> None:
        """Prune neurons of constant activation, to a fixed point.

        Folding a constant can show more neurons to be constant, where the rounding of sums had
        hidden it, and can leave others without a consumer.
        """
        self.prune_unused("domain")
        more = True
        while more:
            found = find_ranges(self.small)
            self.passes += 1
            pruned = []
            for name, layer in self._prunable():
                if name not in found:
                    continue  # the model does not call it
                constant, values = found[name].constant, found[name].low
                foldable = layer.foldable(values)
                self.states[name].blocked_by_consumer = int((constant & ~foldable).sum())
                pruned.append(self._prune(name, constant & foldable, values, level))
            more = any(pruned)
            self.prune_unused(level)

    def prune(self, masks: Mapping[str, Tensor], means: Mapping[str, Tensor], level: Level) -> None:
        """Prune neurons (U,) by layer, each replaced by its value in `means` (U,)."""
        for name, layer in self._prunable():
            device = layer.units.device
            self._prune(name, masks[name].to(device), means[name].to(device), level)

    def build(self, level: Level, *, score: str = "", ground: str = "", folded: bool) -> PrunePlan:
        """The plan of all that was pruned so far."""
        layers = self.small.layers
        cuts = {name: state.result(layers[name]) for name, state in self.states.items()}
        return PrunePlan(
            level=level, score=score, ground=ground, passes=self.passes, folded=folded,
            finetuned=False, weights=self.weights, layers=cuts,
        )  # fmt: skip

    def proposed(self) -> dict[str, Tensor]:
        """(U,) bool by layer: the neurons of zero attribution."""
        found = {}
        for name, layer in self._prunable():
            proposed = self.states[name].proposed
            found[name] = torch.tensor([unit in proposed for unit in layer.units.tolist()])
        return found

    def _prunable(self) -> list[tuple[str, PrunableLayer]]:
        layers = self.small.layers.items()
        return [(name, la) for name, la in layers if not self.states[name].not_prunable_reason]

    def _prune(self, name: str, mask: Tensor, constants: Tensor, level: str) -> bool:
        return self.states[name].prune(self.small.layers[name], mask, constants, level)

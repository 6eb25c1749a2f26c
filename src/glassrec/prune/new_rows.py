"""Whether a certificate still holds: both models and the pruned neurons on rows that are new."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from glassrec.artifacts import Certificate, PrunePlan, Weights
from glassrec.data.batch import Batch
from glassrec.models.base import Recommender
from glassrec.models.layers import activations
from glassrec.prune.certificate import TOLERANCE
from glassrec.prune.guarantees.ranges import logits
from glassrec.prune.precision import copy_sharing_table, to_float64


class ComparedRows(NamedTuple):
    """Logits (B, K), whether one moved further than certified (B,), and active neurons (B, N)."""

    before: Tensor
    after: Tensor
    moved: Tensor
    active: Tensor


class NewRowsCheck:
    """Compares both models, in float64 and evaluation mode, on new rows.

    Of an exact cut, all pruned neurons are watched but those that nothing else reads: these may
    vary. An approximate cut replaces neurons that vary, so none is watched, and a row moved if it
    did by more than all certified rows. `names` are those of the N watched neurons.
    """

    def __init__(
        self, large: Recommender, small: Recommender, plan: PrunePlan, certificate: Certificate
    ) -> None:
        self.large, self.small, self.plan = large, small, plan
        self.exact, self.allowed = certificate.exact, certificate.tolerance
        if not self.exact:
            self.allowed += certificate.max_abs_logit_difference
        self.names, self._watched = list[str](), dict[str, tuple[Tensor, Tensor]]()
        for name, units in (_read_neurons(large, plan) if self.exact else {}).items():
            layer, constants = large.layers[name], plan.layers[name].constants
            places = torch.isin(layer.units.cpu(), torch.tensor(units)).nonzero().flatten()
            values = [constants[unit] for unit in layer.units[places].tolist()]
            self._watched[name] = places, torch.tensor(values, dtype=torch.float64)
            names = layer.neuron_names(name)
            self.names += [names[place] for place in places.tolist()]

    @torch.no_grad()
    def compare(self, batch: Batch) -> ComparedRows:
        """The comparison of some rows."""
        with activations({name: self.large.layers[name] for name in self._watched}) as recorded:
            before = logits(self.large, batch)
        after = logits(self.small, batch)
        active = [torch.zeros(batch.rows, 0, dtype=torch.bool)]
        for name, (places, constants) in self._watched.items():
            steps = [
                (values[:, places] - constants).abs()
                > TOLERANCE * values.abs().amax(1, keepdim=True).clamp(min=1)
                for values in recorded[name]
            ]
            active.append(torch.stack(steps).any(0))
        # Rounding grows with a logit; a NaN counts as moved.
        allowed = (TOLERANCE * before.abs()).clamp(min=self.allowed)
        moved = (~((after - before).abs() <= allowed)).any(1)
        return ComparedRows(before, after, moved, torch.cat(active, 1))


def float64_pair(model: Recommender, pruned: Weights) -> tuple[Recommender, Recommender]:
    """The large model and, of the weights `pruned`, the small one; in evaluation mode."""
    large = to_float64(model).eval()
    small = copy_sharing_table(large)
    small.load(pruned.tensors, "the pruned model", share_table=True)
    return large, to_float64(small.to(large.device))


def _read_neurons(large: Recommender, plan: PrunePlan) -> dict[str, list[int]]:
    """By layer, the pruned neurons that something else reads than neurons pruned behind them."""
    model, found = copy_sharing_table(large), dict[str, list[int]]()
    for name, layer in reversed(model.layers.items()):
        pruned = torch.tensor(
            [unit in plan.layers[name].constants for unit in layer.units.tolist()]
        )
        if pruned.any():
            units = layer.units[pruned & layer.used].tolist()
            found = ({name: units} if units else {}) | found
            layer.keep((~pruned).nonzero().flatten(), torch.zeros(len(pruned)).double())
    return found

"""Which units go, at which level of proof, and what constants they leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from glassrec.artifacts import LayerCut, PrunePlan
from glassrec.data.batch import Batch
from glassrec.models.base import Recommender
from glassrec.models.layers import Layer
from glassrec.prune.constants import Emitted, emitted

Level = Literal["data", "sample"]
"""data: units that emit the same on every row; exact on those rows.
sample: units of zero conductance on the explained rows; what that is worth, the certificate says.
"""


@dataclass
class _Ledger:
    """What is known of one layer while a plan is made, by unit as the layer was built."""

    built: int
    proposed: set[int]
    dropped: dict[int, float] = field(default_factory=dict)
    tied: int = 0

    def cut(self, layer: Layer, level: Level) -> LayerCut:
        kept = layer.units.tolist()
        return LayerCut(
            built=self.built,
            kept=kept,
            dropped={level: sorted(self.dropped)},
            constants=dict(sorted(self.dropped.items())),
            proposed=len(self.proposed),
            refuted=len(self.proposed & set(kept)),
            tied=self.tied,
        )


def plan(
    model: Recommender,
    scores: pd.DataFrame,
    level: Level,
    rows: Callable[[], Iterable[Batch]],
) -> PrunePlan:
    """Decide what goes, on a copy of the model in float64.

    Folding a constant can show more units to be constant, where the rounding of sums had hidden it,
    so the *data* level repeats to a fixed point.

    Args:
        model: in evaluation mode.
        scores: neuron scores, see `artifacts.Table`.
        level: what a unit must be to go.
        rows: all rows of the data, in chunks, afresh at each call.
    """
    small = deepcopy(model).double()
    ledgers = {
        name: _Ledger(layer.size, _silent(scores, name)) for name, layer in small.layers.items()
    }
    passes, more = 0, True
    while more:
        found = emitted(small, rows())
        went = [_narrow(layer, found[n], ledgers[n], level) for n, layer in small.layers.items()]
        more = any(went) and level == "data"
        passes += 1
    cuts = {name: ledgers[name].cut(layer, level) for name, layer in small.layers.items()}
    return PrunePlan(level, passes, cuts)


def _silent(scores: pd.DataFrame, layer: str) -> set[int]:
    """The units of a layer without conductance on any explained row."""
    of_layer = scores[scores["layer"] == layer]
    return set(of_layer.loc[of_layer["max_abs"] == 0, "unit"].tolist())


def _narrow(layer: Layer, found: Emitted, ledger: _Ledger, level: Level) -> bool:
    """Drop what the level lets go, enter it into the ledger, and say whether anything went."""
    units = layer.units.tolist()
    if level == "data":
        goes, constants = found.constant, found.low
    else:
        proposed = [unit in ledger.proposed for unit in units]
        goes, constants = torch.tensor(proposed, device=found.mean.device), found.mean
    foldable = layer.foldable(constants)
    ledger.tied = int((goes & ~foldable).sum())
    goes = _all_but_one(goes & foldable)
    if not goes.any():
        return False
    ledger.dropped |= {units[i]: constants[i].item() for i in goes.nonzero().flatten().tolist()}
    layer.keep((~goes).nonzero().flatten(), constants)
    return True


def _all_but_one(goes: Tensor) -> Tensor:
    """A layer keeps at least one unit: its first, if all could go."""
    if goes.all():
        goes = goes.clone()
        goes[0] = False
    return goes

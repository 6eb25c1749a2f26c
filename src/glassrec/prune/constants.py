"""What each unit emits over all rows: the ground on which a cut is exact.

Zero conductance on a sample proves nothing: a unit may fire elsewhere, or always emit the same. A
forward-only pass over every row takes each unit's minimum and maximum; where they are equal the
unit is constant on the data, and its constant can be folded into whatever reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.models.base import Recommender
from glassrec.models.layers import activations


@dataclass
class Emitted:
    """The minimum, maximum and mean (U,) of each unit of a layer, in float64."""

    low: Tensor
    high: Tensor
    mean: Tensor

    @property
    def constant(self) -> Tensor:
        """(U,): whether the unit emitted the same on every row."""
        return self.low == self.high


@torch.no_grad()
def emitted(model: Recommender, batches: Iterable[Batch]) -> dict[str, Emitted]:
    """What every unit of every layer emits over all rows.

    Args:
        model: in float64 and evaluation mode, so that "equal" is not a matter of rounding.
        batches: all rows, in chunks; one chunk is on the model's device at a time.

    Raises:
        ValueError: there are no rows.
    """
    found: dict[str, Emitted] = {}
    rows = 0
    calls: dict[str, int] = {}
    for batch in batches:
        with activations(model.layers) as heard:
            score(model, batch)
        rows += batch.rows
        for name, emissions in heard.items():
            calls[name] = len(emissions)  # once a time step in a recurrent layer
            for values in emissions:
                found[name] = _merge(found.get(name), values)
    if rows == 0:
        raise ValueError("there are no rows to judge the units on")
    return {n: Emitted(e.low, e.high, e.mean / (rows * calls[n])) for n, e in found.items()}


def score(model: Recommender, batch: Batch) -> Tensor:
    """The logits (B, K) of a batch, in the precision and on the device of the model."""
    batch = batch.to(model.device)
    return model(batch._replace(dense=batch.dense.to(model.table.weight.dtype)))


def _merge(known: Emitted | None, values: Tensor) -> Emitted:
    """`mean` holds the sum until all rows are in."""
    low, high, total = values.amin(0), values.amax(0), values.sum(0)
    if known is None:
        return Emitted(low, high, total)
    return Emitted(
        torch.minimum(known.low, low), torch.maximum(known.high, high), known.mean + total
    )

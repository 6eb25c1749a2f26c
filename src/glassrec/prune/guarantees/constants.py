"""The range of each neuron's activations over all rows: the evidence of an exact plan.

Zero conductance on a sample proves nothing: a neuron may be active elsewhere, or always constant. A
forward-only pass over every row takes each neuron's minimum and maximum; where they are equal the
neuron is constant on the data, and its constant can be folded into its consumers.
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
class ActivationRange:
    """The minimum, maximum and mean (U,) of each neuron of a layer, in float64."""

    low: Tensor
    high: Tensor
    mean: Tensor

    @property
    def constant(self) -> Tensor:
        """(U,) bool: whether the activation is the same on every row."""
        return self.low == self.high


@torch.no_grad()
def activation_ranges(model: Recommender, batches: Iterable[Batch]) -> dict[str, ActivationRange]:
    """The range of every neuron of every layer over all rows, which come in chunks.

    The model is in float64 and evaluation mode, so that "equal" is not a matter of rounding.

    Raises:
        ValueError: there are no rows.
    """
    found: dict[str, ActivationRange] = {}
    rows = 0
    calls: dict[str, int] = {}
    for batch in batches:
        with activations(model.layers) as recorded:
            logits(model, batch)
        rows += batch.rows
        for name, values in recorded.items():
            calls[name] = len(values)  # once a time step in a recurrent layer
            for each in values:
                found[name] = _merge(found.get(name), each)
    if rows == 0:
        raise ValueError("there are no rows to judge the neurons on")
    return {n: ActivationRange(r.low, r.high, r.mean / (rows * calls[n])) for n, r in found.items()}


def logits(model: Recommender, batch: Batch) -> Tensor:
    """The logits (B, K) of a batch, in the precision and on the device of the model."""
    batch = batch.to(model.device)
    return model(batch._replace(dense=batch.dense.to(model.table.weight.dtype)))


def _merge(known: ActivationRange | None, values: Tensor) -> ActivationRange:
    """`mean` holds the sum until all rows are in."""
    low, high, total = values.amin(0), values.amax(0), values.sum(0)
    if known is None:
        return ActivationRange(low, high, total)
    return ActivationRange(
        torch.minimum(known.low, low), torch.maximum(known.high, high), known.mean + total
    )

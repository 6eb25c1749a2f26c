"""Whether the units that a cut keeps still do what they did."""

from __future__ import annotations

import torch
from torch import Tensor

from glassrec.explain.explainer import Explainer
from glassrec.explain.tables import units
from glassrec.models.base import Recommender


def change_of_kept_units(large: Explainer, small: Explainer, count: int) -> float:
    """The largest change of what flows through a unit, as a share of the largest of its layer.

    The mean of |·| over the same rows is compared, beside each model's own baseline. It is 0 up to
    rounding where a cut is exact on the whole path from the baseline to the row, too, as one at the
    level domain is. A unit that is constant on the data may still vary between baseline and row.

    Args:
        large: who explains the model before the cut.
        small: who explains the one after it, with the same settings.
        count: how many of the explained rows are looked at, at most.
    """
    rows = large.few(count)
    before, after = (_sizes(explainer, rows) for explainer in (large, small))
    kept = _places(large.model, small.model)
    changes = [
        (after[name] - before[name][place]).abs().max() / before[name].max().clamp_min(1e-30)
        for name, place in kept.items()
    ]
    return max((change.item() for change in changes), default=0.0)


def _sizes(explainer: Explainer, rows: Tensor) -> dict[str, Tensor]:
    """The mean of |·| of each unit (U,), by layer."""
    return {name: each.double().abs().mean(0) for name, each in units(explainer, rows).items()}


def _places(large: Recommender, small: Recommender) -> dict[str, Tensor]:
    """Where among the large model's units each of the small one's is, by layer."""
    layers = large.layers
    return {
        name: torch.searchsorted(layers[name].units, layer.units).cpu()
        for name, layer in small.layers.items()
    }

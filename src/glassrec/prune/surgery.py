"""The cut itself: a model made really smaller."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from glassrec.artifacts import PrunePlan
from glassrec.models.base import Recommender


def cut(model: Recommender, plan: PrunePlan) -> Recommender:
    """A copy of the model in float64 without the units that the plan drops.

    Raises:
        ValueError: the plan is of a model with other layers or units.
    """
    small = deepcopy(model).double()
    layers = small.layers
    if [*layers] != [*plan.layers]:
        raise ValueError(f"the plan is of layers {[*plan.layers]}, the model has {[*layers]}")
    for name, layer in layers.items():
        constants = plan.layers[name].constants
        units = layer.units.tolist()
        strange = sorted(constants.keys() - set(units))
        if strange:
            raise ValueError(f"the plan drops unit {strange[0]} of {name}, which has none such")
        if constants:
            kept = [i for i, unit in enumerate(units) if unit not in constants]
            values = [constants.get(unit, 0.0) for unit in units]
            emitted = torch.tensor(values, dtype=torch.float64)
            where = layer.units.device
            layer.keep(torch.tensor(kept, device=where), emitted.to(where))
    small.narrow()
    return small


def compact(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float64 as float32 where that loses nothing.

    Only biases that took over a constant keep their float64, so that the file holds the very
    numbers that were certified.
    """
    return {name: _compact(tensor.cpu()) for name, tensor in weights.items()}


def _compact(tensor: Tensor) -> Tensor:
    single = tensor.float()
    exact = tensor.dtype == torch.float64 and torch.equal(single.double(), tensor)
    return single if exact else tensor

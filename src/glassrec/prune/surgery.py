"""The cut itself: a model made really smaller."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from glassrec.artifacts import PrunePlan, digest
from glassrec.models.base import Recommender


def cut(model: Recommender, plan: PrunePlan) -> Recommender:
    """A copy of the model in float64 without the units that the plan drops.

    Raises:
        ValueError: the plan is of a model with other layers or units.
    """
    refuse_misfit(plan, model)
    small = deepcopy(model).double()
    for name, layer in small.layers.items():
        constants = plan.layers[name].constants
        units = layer.units.tolist()
        if constants:
            kept = [i for i, unit in enumerate(units) if unit not in constants]
            values = [constants.get(unit, 0.0) for unit in units]
            emitted = torch.tensor(values, dtype=torch.float64)
            where = layer.units.device
            layer.keep(torch.tensor(kept, device=where), emitted.to(where))
    return small


def refuse_misfit(plan: PrunePlan, model: Recommender) -> None:
    """ValueError if a plan is of a model with other layers or units."""
    layers = model.layers
    if [*layers] != [*plan.layers]:
        raise ValueError(f"the plan is of layers {[*plan.layers]}, the model has {[*layers]}")
    for name, layer in layers.items():
        strange = sorted(plan.layers[name].constants.keys() - set(layer.units.tolist()))
        if strange:
            raise ValueError(f"the plan drops unit {strange[0]} of {name}, which has none such")


def refuse_another(plan: str, model: Recommender) -> None:
    """ValueError if a model is not the one that a plan is of.

    Args:
        plan: the digest of the tensors that it was made for.
        model: the one to be cut, before its weights are made float64.
    """
    found = digest(model.state_dict())
    if found != plan:
        raise ValueError(
            f"the plan is of the weights {plan[:12]}…, these are {found[:12]}…; plan again"
        )


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

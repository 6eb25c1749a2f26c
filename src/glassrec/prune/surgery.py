"""The cut itself: a model made really smaller."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor

from glassrec.artifacts import PrunePlan
from glassrec.models.base import Recommender
from glassrec.prune.certificate import digest


def cut(model: Recommender, plan: PrunePlan) -> Recommender:
    """A copy of the model in float64 without the units that the plan drops.

    Raises:
        ValueError: the plan is of other weights, or of a model with other layers or units.
    """
    found = digest(model.state_dict())
    if found != plan.weights:
        raise ValueError(
            f"the plan is of weights whose sha256 is {plan.weights[:12]}…, and these have "
            f"{found[:12]}…; plan again"
        )
    return carried_out(model, plan)


def carried_out(model: Recommender, plan: PrunePlan) -> Recommender:
    """As `cut`, where an earlier round of the plan has dropped some of the units already.

    Raises:
        ValueError: the plan is of a model with other layers or units.
    """
    layers = model.layers
    if [*layers] != [*plan.layers]:
        raise ValueError(f"the plan is of layers {[*plan.layers]}, the model has {[*layers]}")
    goes, constants = {}, {}
    for name, layer in layers.items():
        there, planned = layer.units.tolist(), plan.layers[name]
        strange = {*planned.kept} - {*there} or {*there} - {*planned.kept} - {*planned.constants}
        if strange:
            raise ValueError(f"the plan and the model differ in unit {min(strange)} of {name}")
        goes[name] = torch.tensor([unit in planned.constants for unit in there])
        values = [planned.constants.get(unit, 0.0) for unit in there]
        constants[name] = torch.tensor(values, dtype=torch.float64)
    return without(deepcopy(model).double(), goes, constants)


def without(
    model: Recommender, goes: Mapping[str, Tensor], constants: Mapping[str, Tensor]
) -> Recommender:
    """The model, changed in place, without some units; their readers take over `constants`.

    Args:
        model: whose units they are.
        goes: by layer, (U,) bool; layers that are not named stay as they are.
        constants: by layer, (U,) what each unit is taken to emit.
    """
    for name, gone in goes.items():
        layer = model.layers[name]
        where = layer.units.device
        if gone.any():
            layer.keep((~gone).nonzero().flatten().to(where), constants[name].to(where))
    model.narrow()
    return model


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

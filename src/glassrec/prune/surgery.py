"""The cut itself: a model made really smaller."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from glassrec.artifacts import PrunePlan, digest
from glassrec.models.base import Recommender


def cut(model: Recommender, plan: PrunePlan) -> Recommender:
    """A copy of the model in float64 without the units that the plan drops.

    Raises:
        ValueError: the plan is of other weights, or of a model with other layers or units.
    """
    found = digest(model.state_dict())
    if found != plan.weights:
        raise ValueError(
            f"the plan is of the weights {plan.weights[:12]}…, these are {found[:12]}…; plan again"
        )
    refuse_misfit(plan, model)
    return carried_out(model, plan)


def carried_out(model: Recommender, plan: PrunePlan) -> Recommender:
    """As `cut`, of a model that an earlier round of the plan has cut and trained on."""
    goes, constants = {}, {}
    for name, layer in model.layers.items():
        known = plan.layers[name].constants
        units = layer.units.tolist()
        goes[name] = torch.tensor([unit in known for unit in units])
        values = [known.get(unit, 0.0) for unit in units]
        constants[name] = torch.tensor(values, dtype=torch.float64)
    return without(precise(model), goes, constants)


def copied(model: Recommender) -> Recommender:
    """A copy to cut, not to train or to load into: both hold the same numbers of the table.

    A cut takes a narrower table and changes no number of the old one, and nothing else of a model
    need be large.
    """
    table = model.table.weight
    shared = nn.Parameter(table.detach(), requires_grad=table.requires_grad)
    return deepcopy(model, {id(table): shared})


def precise(model: Recommender) -> Recommender:
    """Such a copy in float64: on the model's device, but for Apple's, which has none."""
    copy = copied(model)
    return (copy.cpu() if model.device.type == "mps" else copy).double()


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
        if gone.any():
            kept = (~gone).nonzero().flatten().to(model.device)
            layer.keep(kept, constants[name].to(model.table.weight))  # no float64 on Apple's device
    model.narrow()
    return model


def refuse_misfit(plan: PrunePlan, model: Recommender) -> None:
    """ValueError if a plan is of a model with other layers or units."""
    layers = model.layers
    if [*layers] != [*plan.layers]:
        raise ValueError(f"the plan is of layers {[*plan.layers]}, the model has {[*layers]}")
    for name, layer in layers.items():
        planned = plan.layers[name]
        strange = {*planned.kept, *planned.constants} ^ {*layer.units.tolist()}
        if strange:
            raise ValueError(f"the plan and the model differ in unit {min(strange)} of {name}")


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

"""Surgery: prune the neurons of a plan, so that the model becomes smaller."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from glassrec.artifacts import PrunePlan, digest
from glassrec.models.base import Recommender
from glassrec.prune.precision import to_float64


def prune_model(model: Recommender, plan: PrunePlan) -> Recommender:
    """A copy of the model in float64 without the neurons that the plan prunes.

    Raises:
        ValueError: the plan is of other weights, or of a model with other layers or neurons.
    """
    found = digest(model.state_dict())
    if found != plan.weights:
        raise ValueError(
            f"the plan is of the weights {plan.weights[:12]}…, these are {found[:12]}…; plan again"
        )
    check_plan_fits(plan, model)
    return apply_plan(model, plan)


def apply_plan(model: Recommender, plan: PrunePlan) -> Recommender:
    """As `prune_model`, of a model that an earlier round of the plan has pruned and fine-tuned."""
    masks, constants = {}, {}
    for name, layer in model.layers.items():
        known = plan.layers[name].constants
        units = layer.units.tolist()
        masks[name] = torch.tensor([unit in known for unit in units])
        values = [known.get(unit, 0.0) for unit in units]
        constants[name] = torch.tensor(values, dtype=torch.float64)
    return prune_neurons(to_float64(model), masks, constants)


def prune_neurons(
    model: Recommender, masks: Mapping[str, Tensor], constants: Mapping[str, Tensor]
) -> Recommender:
    """The model, changed in place, without some neurons; their consumers fold `constants`.

    `masks` (U,) bool, by layer, are the neurons to prune; `constants` (U,) take their places.
    """
    for name, pruned in masks.items():
        layer = model.layers[name]
        if pruned.any():
            kept = (~pruned).nonzero().flatten().to(model.device)
            values = constants[name].to(model.device, model.dtype)  # no float64 on Apple's device
            layer.keep(kept, values)
    model.narrow()
    return model


def check_plan_fits(plan: PrunePlan, model: Recommender) -> None:
    """ValueError if a plan is of a model with other layers or neurons."""
    layers = model.layers
    if [*layers] != [*plan.layers]:
        raise ValueError(f"the plan is of layers {[*plan.layers]}, the model has {[*layers]}")
    for name, layer in layers.items():
        planned = plan.layers[name]
        differing = {*planned.kept, *planned.constants} ^ {*layer.units.tolist()}
        if differing:
            raise ValueError(f"the plan and the model differ in neuron {min(differing)} of {name}")

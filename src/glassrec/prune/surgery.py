"""Surgery: prune the neurons of a plan, so that the model becomes smaller."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from glassrec.artifacts import PrunePlan, digest
from glassrec.models.base import Recommender


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
            layer.keep(kept, constants[name].to(model.table.weight))  # no float64 on Apple's device
    model.narrow()
    return model


def copy_sharing_table(model: Recommender) -> Recommender:
    """A copy to prune, not to train or to load into: both hold the same numbers of the table.

    Pruning takes a narrower table and changes no number of the old one, which alone is large.
    """
    table = model.table.weight
    shared = nn.Parameter(table.detach(), requires_grad=table.requires_grad)
    return deepcopy(model, {id(table): shared})


def to_float64(model: Recommender) -> Recommender:
    """Such a copy in float64: on the model's device, but for Apple's, which has none."""
    copy = copy_sharing_table(model)
    return (copy.cpu() if model.device.type == "mps" else copy).double()


def to_float32_where_equal(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float64 as float32 where that loses nothing.

    Biases that folded a constant stay float64: the file holds the very numbers that were certified.
    """
    found = {}
    for name, tensor in weights.items():
        single = tensor.cpu().float()
        equal = tensor.dtype == torch.float64 and torch.equal(single.double(), tensor.cpu())
        found[name] = single if equal else tensor.cpu()
    return found


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

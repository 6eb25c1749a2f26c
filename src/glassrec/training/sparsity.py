"""Training that makes units truly die: the proximal step of the sparse group lasso.

A subgradient makes weights small and never zero, so the penalty is no part of the loss: after each
step of the optimiser comes its proximal operator, which has a closed form and makes exact zeros.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.optim import Optimizer

from glassrec.models.base import Recommender
from glassrec.models.layers import PrunableLayer
from glassrec.training.objective import Objective


class Shrinkage:
    """Shrinks the weights of each unit by what the objective asks for.

    The weights of a unit are those that read it, in all of its readers together, or, where none of
    those has weights, those that make it. With w of them, n numbers, the penalty is
    l1 · |w|₁ + group_lasso · √n · ‖w‖₂ (Simon, Friedman, Hastie and Tibshirani, "A sparse-group
    lasso", JCGS 2013; for units of networks: Scardapane et al., "Group sparse regularization for
    deep neural networks", Neurocomputing 2017). Where groups overlap, as in front of the last
    bottom layer of DLRM, one is shrunk after the other.

    The embedding table is left alone: a group of it would be a row, an id that is looked up, and
    not a unit. Only what a layer calls the weights of its units is shrunk.

    Args:
        model: where it is to be trained, and with its final shapes: its tensors are found once, as
            finding them waits for the device, and shrunk in place.
        objective: the strengths.
        optimizers: a weight is shrunk in proportion to its learning rate.
    """

    def __init__(
        self, model: Recommender, objective: Objective, optimizers: Iterable[Optimizer]
    ) -> None:
        self.l1, self.group_lasso = objective.l1, objective.group_lasso
        settings = {
            _place(parameter): group
            for optimizer in optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.requires_grad
        }
        asked = self.l1 > 0 or self.group_lasso > 0
        found = [_found(layer, settings) for layer in model.layers.values() if asked]
        self.units = [weights for weights in found if weights]

    @torch.no_grad()
    def step(self) -> None:
        """The proximal operator of one step of the optimisers; never waits for the device."""
        for weights in self.units:
            if self.l1:
                for view, group in weights:
                    size = group["lr"] * self.l1
                    view.sub_(view.clamp(-size, size))
            if self.group_lasso:
                self._shrink_together(weights)

    def _shrink_together(self, weights: list[tuple[Tensor, dict[str, Any]]]) -> None:
        """Shorten each column, or make it zero where it is short."""
        columns = [view.reshape(-1, view.shape[-1]) for view, _ in weights]
        norm = vector_norm(torch.stack([vector_norm(each, dim=0) for each in columns]), dim=0)
        norm.clamp_min_(torch.finfo(norm.dtype).tiny)
        size = self.group_lasso * sum(len(each) for each in columns) ** 0.5
        for view, group in weights:
            view.mul_((1 - group["lr"] * size / norm).clamp_min_(0))


def _found(layer: PrunableLayer, settings: dict[int, Any]) -> list[tuple[Tensor, dict[str, Any]]]:
    """Views (..., U) of a layer's trained weights, with the settings of the optimiser of each.

    Some units have no weights, as those of a product whose numbers are added up.
    """
    views = [view.detach() for view in layer.outgoing_weights() or layer.incoming_weights()]
    return [(view, settings[_place(view)]) for view in views if _place(view) in settings]


def _place(tensor: Tensor) -> int:
    """Where a parameter lies; a view of it lies there, too."""
    return tensor.untyped_storage().data_ptr()

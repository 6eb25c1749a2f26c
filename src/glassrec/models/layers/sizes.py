"""Tensors that change their size: when units go, and when the weights of a narrowed model come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def shrink_to(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Before loading: give the module's own tensors the smaller shapes that `state` brings.

    Only smaller ones: wider weights are those of another model, and loading then refuses them.
    """
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for name, tensor in own:
        given = state.get(prefix + name)
        if given is None or given.ndim != tensor.ndim or given.shape == tensor.shape:
            continue
        if all(new <= old for new, old in zip(given.shape, tensor.shape, strict=True)):
            replace(module, name, tensor.new_empty(given.shape))


def replace(module: nn.Module, name: str, value: Tensor) -> None:
    """Replace a parameter or buffer by one of another shape, on the same device."""
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        value = nn.Parameter(value, requires_grad=old.requires_grad)
    setattr(module, name, value)

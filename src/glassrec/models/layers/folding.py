"""Copies of pruned models for inference, and recorded activations, which need the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from glassrec.models.layers.prunable import PrunableLayer

recording: list[None] = []
"""One entry for each open context of `activations`: folded copies are not used meanwhile."""


@contextmanager
def activations(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """Record the activations of modules while the context is open, by name: (B, U), once a call.

    Those of a prunable layer are the outputs of its `activation_module`.
    """
    recorded: dict[str, list[Tensor]] = {name: [] for name in modules}
    handles = [
        getattr(module, "activation_module", module).register_forward_hook(
            lambda _, __, output, name=name: recorded[name].append(output)
        )
        for name, module in modules.items()
    ]
    recording.append(None)
    try:
        yield recorded
    finally:
        recording.pop()
        for handle in handles:
            handle.remove()


class Folding:
    """The folded copy of a model, made on first use and again after a change of the weights.

    The copy looks up nothing but what is stored, and has zeros in its weights where a pruned model
    picks what it reads. So it does nothing that the model as built does not do, and has the same
    logits up to rounding. No activations can be recorded in it.

    It shares all parameters with the model but those that are laid out in another way. Changes of
    these in place are noticed by their versions, another device by the place of the table.
    """

    def __init__(self) -> None:
        self._copy: Any = None
        self._cuts = -1
        self._table, self._place = torch.empty(0), (0, torch.float32)
        self._watched: list[Tensor] = []
        self._versions: list[int] = []

    def __reduce__(self) -> tuple[type[Folding], tuple[()]]:
        return Folding, ()  # a copy of the model makes its own

    def copy_of(self, model: Any) -> Any:
        """The copy, or None of a model that is not pruned, or whose table is not narrowed yet."""
        if torch.compiler.is_compiling() or (
            self._cuts == PrunableLayer.cuts
            and self._place == (self._table.data_ptr(), model.dtype)
            and self._versions == [tensor._version for tensor in self._watched]
        ):
            return self._copy
        with torch.inference_mode(False), torch.no_grad():
            self._make(model)
        return self._copy

    def _make(self, model: Any) -> None:
        self._copy, self._watched = None, []
        self._cuts, self._table = PrunableLayer.cuts, model.table.weight
        self._place = self._table.data_ptr(), model.dtype
        pruned = any(len(layer.units) < layer.size for layer in model.layers.values())
        if pruned and torch.equal(model.dimensions(), model.table.read):
            copy = deepcopy(model, {id(each): each for each in model.parameters()})
            copy.fold()
            shared = {*map(id, copy.parameters())}
            own = [each for each in model.parameters() if id(each) not in shared]
            self._copy, self._watched = copy, [each for each in own if not each.is_inference()]
        self._versions = [tensor._version for tensor in self._watched]

"""Neurons of imported modules: their parameters are the module's own, and are cut in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glassrec.imported.exported import attribute
from glassrec.models.layers import Consumer, PrunableLayer
from glassrec.models.layers.affine import replace, shrink_to

Function = Callable[[Tensor], Tensor]


class ImportedLayer(PrunableLayer):
    """The neurons of one linear layer, or of several that are added or multiplied, (B, U).

    It stands in the graph behind the last operation that computes each neuron by itself, and
    passes activations on.

    Args:
        size: U.
        module: the user's module.
        names: of the parameters and buffers with a row or a number for each neuron.
        weights: how many of them, the first ones, are weights of linear layers.
        reason: why no neuron can be pruned.
    """

    def __init__(
        self, size: int, module: nn.Module, names: Sequence[str], weights: int, reason: str | None
    ) -> None:
        super().__init__(size)
        self._source = (module,)  # a tuple, so that the module is not registered twice
        self.names, self.weights, self.reason = (*names,), weights, reason

    @property
    def not_prunable_reason(self) -> str | None:
        """The operation and the user's line that no neuron can be pruned before."""
        return self.reason or super().not_prunable_reason

    def forward(self, x: Tensor) -> Tensor:
        """(B, U), as they are."""
        return x

    def incoming_weights(self) -> list[Tensor]:
        """The rows of the weights, as columns (in, U)."""
        return [attribute(self._source[0], name).T for name in self.names[: self.weights]]

    def _keep(self, kept: Tensor) -> None:
        for name in self.names:
            cut(self._source[0], name, lambda tensor: tensor[kept])


class LinearInput(nn.Module, Consumer):
    """The columns of a linear layer's weight, some parts of which are neurons.

    Args:
        module: the user's module.
        names: of the weight and the bias.
        parts: the parts that lie side by side in its input: their widths, and the operations
            between the activations and the layer.
    """

    parts: Tensor

    def __init__(
        self, module: nn.Module, names: tuple[str, str], parts: Sequence[tuple[int, Function]]
    ) -> None:
        super().__init__()
        self._source, self.names = (module,), names
        self.functions = tuple(function for _, function in parts)
        self.register_buffer("parts", torch.tensor([width for width, _ in parts]))

    def _columns(self, part: int) -> slice:
        start = int(self.parts[:part].sum())
        return slice(start, start + int(self.parts[part]))

    def weights(self, part: int) -> list[Tensor]:
        """The columns (out, U) of a part."""
        return [attribute(self._source[0], self.names[0])[:, self._columns(part)]]

    def reads(self, part: int) -> Tensor:
        """(U,): whether the column of a neuron has a weight that is not zero."""
        return (self.weights(part)[0] != 0).any(0)

    @torch.no_grad()
    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """Read only the `kept` neurons of a part; W · constants of the others moves into b."""
        own, values = self.weights(part)[0], self.functions[part](constants)
        dropped = torch.ones(len(values), dtype=torch.bool, device=own.device)
        dropped[kept] = False
        attribute(self._source[0], self.names[1]).add_(own[:, dropped] @ values[dropped].to(own))
        stay = torch.ones(int(self.parts.sum()), dtype=torch.bool, device=own.device)
        stay[self._columns(part)] = ~dropped
        cut(self._source[0], self.names[0], lambda tensor: tensor[:, stay])
        self.parts[part] = len(kept)


def cut(module: nn.Module, path: str, pick: Function) -> None:
    """Replace a parameter or buffer by some of its numbers, and correct the sizes of its module."""
    holder, _, name = path.rpartition(".")
    part = module.get_submodule(holder)
    replace(part, name, pick(getattr(part, name).detach()).clone())
    correct_sizes(part)


def correct_sizes(part: nn.Module) -> None:
    """Set the sizes that PyTorch's own layers are printed with to those of their parameters."""
    if isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, nn.BatchNorm1d) and part.running_mean is not None:
        part.num_features = len(part.running_mean)
    elif isinstance(part, nn.PReLU):
        part.num_parameters = len(part.weight)


def shrink_module(model: Any, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Before loading an imported model: take the widths of pruned layers in `state`."""
    for name, part in model.module.named_modules():
        shrink_to(part, state, f"{prefix}module.{name}." if name else f"{prefix}module.")
        correct_sizes(part)

"""Neurons of imported modules: their parameters are the module's own, and are cut in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from glassrec.imported.exported import attribute
from glassrec.models.layers import Consumer, PrunableLayer
from glassrec.models.layers.affine import replace, shrink_to

if TYPE_CHECKING:
    from glassrec.imported.imported_model import ImportedModel


class ImportedLayer(PrunableLayer):
    """The neurons of one operation with weights, or of several that are joined, (B, U).

    It stands in the graph behind the last operation that computes each neuron by itself, and
    passes activations on, once for each position that a neuron has.

    Args:
        size: U.
        model: whose layer it is.
        number: of the layer in the model.
        reason: why no neuron can be pruned.
        recurrent: whether positions are steps that read those before them.
    """

    def __init__(
        self, size: int, model: ImportedModel, number: int, reason: str | None, *, recurrent: bool
    ) -> None:
        super().__init__(size)
        self.parallel = not recurrent
        self._model = (model,)  # a tuple, so that the model is not registered in its own part
        self.number, self.reason = number, reason
        self.override: Tensor | None = None

    @property
    def not_prunable_reason(self) -> str | None:
        """The operation and the user's line that no neuron can be pruned before."""
        return self.reason or super().not_prunable_reason

    @property
    def inputs(self) -> list[WeightInputs]:
        """The axes of the weights that read it."""
        return [cast(WeightInputs, consumer) for consumer, _ in self._consumers]

    @property
    def own(self) -> list[ParameterAxis]:
        """The other axes of parameters with numbers of these neurons."""
        axes = [axis for axis in self._model[0].axes if not isinstance(axis, WeightInputs)]
        return [cast(ParameterAxis, a) for a in axes if (a.owners[0] == self.number).any()]  # type: ignore

    def forward(self, x: Tensor) -> Tensor:
        """(B, U), as they are."""
        return x if self.override is None else self.override.to(x).expand_as(x)

    def incoming_weights(self) -> list[Tensor]:
        """Each neuron's numbers of the weights, (…, U)."""
        return [axis.numbers(self.number) for axis in self.own if axis.is_weight]

    def foldable(self, constants: Tensor) -> Tensor:
        """(U,): whether all that reads a neuron can take over its constant."""
        if self.not_prunable_reason:
            return torch.zeros_like(constants, dtype=torch.bool)
        self._model[0].set_constants(self, constants)
        return torch.stack(
            [axis.takes_over[axis.at(self.number)].all(1) for axis in self.inputs]
        ).all(0)

    def keep(self, kept: Tensor, constants: Tensor) -> None:
        """As every layer; the constants are those that arrive at the weights which read it."""
        if not self.not_prunable_reason:
            self._model[0].set_constants(self, constants)
        super().keep(kept, constants)

    def _keep(self, kept: Tensor) -> None:
        for axis in self.own:
            axis.keep(self.number, self.units)


class ParameterAxis(nn.Module):
    """An axis of a parameter or buffer, some of whose numbers belong to neurons.

    Args:
        module: the user's module.
        name: of the parameter.
        axis: of it.
        owners: (2, n) the layer, −1 for none, and the neuron of each number along the axis.
        is_weight: whether it is a weight.
    """

    owners: Tensor
    """(3, n); the last row is the position of each number in the module as it was."""

    def __init__(
        self, module: nn.Module, name: str, axis: int, owners: Tensor, is_weight: bool = True
    ) -> None:
        super().__init__()
        self._source = (module,)  # a tuple, so that the module is not registered twice
        self.name, self.axis, self.is_weight = name, axis, is_weight
        self.register_buffer("owners", torch.cat([owners, torch.arange(owners.shape[1])[None]]))
        self.register_load_state_dict_pre_hook(shrink_to)

    def at(self, layer: int) -> Tensor:
        """(U, m) the positions along the axis of each neuron's numbers."""
        own = (self.owners[0] == layer).nonzero().flatten()
        units = self.owners[1, own]
        return own[units.argsort(stable=True)].view(len(units.unique()), -1)

    def numbers(self, layer: int) -> Tensor:
        """(…, U) the numbers of each neuron."""
        at = self.at(layer)
        picked = attribute(self._source[0], self.name).index_select(self.axis, at.flatten())
        return picked.unflatten(self.axis, at.shape).movedim(self.axis, -1)

    def keep(self, layer: int, units: Tensor) -> None:
        """Drop the numbers of a layer's neurons other than `units`."""
        stays = (self.owners[0] != layer) | torch.isin(self.owners[1], units)
        holder, _, name = self.name.rpartition(".")
        part = self._source[0].get_submodule(holder)
        index = stays.nonzero().flatten()
        replace(part, name, getattr(part, name).detach().index_select(self.axis, index))
        correct_sizes(part)
        self.owners = self.owners[:, stays]


class WeightInputs(ParameterAxis, Consumer):
    """The axis of a weight that reads neurons, among other inputs.

    Args:
        module: as of `ParameterAxis`, likewise `name`, `axis` and `owners`.
        bias: the name of the bias that constants are folded into.
        zero: whether no constant but zero can be folded: there is no bias, or zeros are read beside
            the input.
        recurrent: whether it reads the states of the very neurons that it computes.
    """

    def __init__(
        self, module: nn.Module, name: str, axis: int, owners: Tensor, bias: str | None,
        *, zero: bool, recurrent: bool,
    ) -> None:  # fmt: skip
        super().__init__(module, name, axis, owners)
        self.bias, self.zero, self.recurrent = bias, zero, recurrent
        self.constants = self.takes_over = torch.empty(0)

    def set_constants(self, values: Tensor) -> None:
        """Note values (…, n) of the input, constant in the columns of a layer."""
        values = values.flatten(0, -2)
        even = (values == values[0]).all(0)  # at all positions
        self.constants = values[0].where(even, values.mean(0))
        self.takes_over = even & ((self.constants == 0) | (not self.zero))

    def weights(self, part: int) -> list[Tensor]:
        """The columns (…, U) of a layer."""
        return [self.numbers(part)]

    def reads(self, part: int) -> Tensor:
        """(U,): whether a neuron has a weight that is not zero, other than on itself."""
        nonzero = self.numbers(part) != 0
        if self.recurrent:
            nonzero = nonzero.view(-1, nonzero.shape[-1], nonzero.shape[-1])
            nonzero.diagonal(dim1=1, dim2=2).fill_(False)
        return nonzero.flatten(0, -2).any(0)

    @torch.no_grad()
    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """Read only the `kept` neurons of a layer; W · constants of the others moves into b."""
        at = self.at(part)
        if self.bias is not None:
            dropped = torch.ones(len(at), dtype=torch.bool, device=at.device)
            dropped[kept] = False
            gone, bias = at[dropped].flatten(), attribute(self._source[0], self.bias)
            columns = attribute(self._source[0], self.name).movedim(self.axis, -1)[..., gone]
            bias.add_((columns @ self.constants[gone].to(columns)).view(len(bias), -1).sum(1))
        self.keep(part, self.owners[1, at[kept, 0]])


_SIZES: Mapping[Any, tuple[str, Mapping[str, int]]] = {
    nn.Linear: ("weight", {"out_features": 0, "in_features": 1}),
    (nn.Conv1d, nn.Conv2d): ("weight", {"out_channels": 0, "in_channels": 1}),
    (nn.BatchNorm1d, nn.BatchNorm2d): ("running_mean", {"num_features": 0}),
    nn.PReLU: ("weight", {"num_parameters": 0}),
    (nn.Embedding, nn.EmbeddingBag): ("weight", {"embedding_dim": 1}),
    nn.RNNBase: ("weight_ih_l0", {"input_size": 1}),
    (nn.LSTM, nn.GRU, nn.RNN): ("weight_hh_l0", {"hidden_size": 1}),
}
"""Of PyTorch's own modules, the parameter whose axes are as long as their attributes say."""


def correct_sizes(part: nn.Module) -> None:
    """Set the sizes that PyTorch's own layers are printed with to those of their parameters."""
    for kinds, (name, sizes) in _SIZES.items():
        if isinstance(part, kinds) and getattr(part, name) is not None:
            for size, axis in sizes.items():
                setattr(part, size, getattr(part, name).shape[axis])


def shrink_module(model: Any, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Before loading an imported model: take the widths of pruned layers in `state`."""
    for name, part in model.module.named_modules():
        shrink_to(part, state, f"{prefix}module.{name}." if name else f"{prefix}module.")
        correct_sizes(part)

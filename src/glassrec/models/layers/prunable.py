"""A layer whose neurons can be explained, named and pruned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from glassrec.models.embedding import JointTable
from glassrec.models.layers.affine import Consumer, refuse_another_size, shrink_to

MIXING = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.Softmax, nn.LogSoftmax)
"""Modules whose output for a neuron depends on all others: pruning one changes the rest."""


class PrunableLayer(nn.Module, ABC):
    """A layer of neurons; the output of its `activation_module`, (B, U), are their activations.

    The buffers are part of every weights file. `units` (U,) int64 holds the index of each remaining
    neuron in the layer as it was built, and `built` how many neurons that layer had.
    """

    cuts: ClassVar[int] = 0  # how often any layer was pruned in this process
    units: Tensor
    built: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("units", torch.arange(size))
        # In the weights, so that those of a narrower model are not taken for a pruned one's.
        self.register_buffer("built", torch.tensor(size))
        self.register_load_state_dict_pre_hook(refuse_another_size)
        self.register_load_state_dict_pre_hook(shrink_to)
        # Tuples hide the consumers from nn.Module: they are not submodules of this layer.
        self._consumers: tuple[tuple[Consumer, int], ...] = ()
        self._unsupported_consumers: tuple[nn.Module, ...] = ()

    def register_consumer(self, consumer: Consumer | nn.Module, part: int = 0) -> None:
        """Declare that `consumer` reads this layer's activations as its input `part`.

        Behind a module that is no `Consumer`, such as a normalisation, no neuron can be pruned.
        """
        if isinstance(consumer, Consumer):
            self._consumers = (*self._consumers, (consumer, part))
        else:
            self._unsupported_consumers = (*self._unsupported_consumers, consumer)

    @property
    def not_prunable_reason(self) -> str | None:
        """Why no neuron can be pruned, to follow the layer's name; None if some may be."""
        for consumer in self._unsupported_consumers:
            mixes = isinstance(consumer, MIXING)
            why = "mixes its neurons" if mixes else "cannot drop one of its inputs"
            return f"it feeds {type(consumer).__name__}, which {why}"
        return None if self._consumers else "no consumer of it is registered"

    @property
    def remaining(self) -> Tensor:
        """(size,) bool: which of the neurons as built are still there."""
        none = torch.zeros(self.size, dtype=torch.bool, device=self.units.device)
        return none.index_fill(0, self.units, True)

    def neuron_names(self, layer: str) -> list[str]:
        """A readable name for each neuron, given the layer's own: `bottom.0[17]`."""
        return [f"{layer}[{unit}]" for unit in self.units.tolist()]

    def foldable(self, constants: Tensor) -> Tensor:
        """Which (U,) neurons can be pruned exactly if each is always at its constant (U,)."""
        if self.not_prunable_reason:
            return torch.zeros_like(constants, dtype=torch.bool)
        masks = [consumer.folds(constants) for consumer, _ in self._consumers]
        return torch.stack(masks).all(0)

    @property
    def used(self) -> Tensor:
        """(U,) bool: whether a neuron affects any output; an unused one can always be pruned."""
        if self.not_prunable_reason:
            return torch.ones_like(self.units, dtype=torch.bool)
        masks = [consumer.reads(part) for consumer, part in self._consumers]
        return torch.stack([mask.expand(len(self.units)) for mask in masks]).any(0)

    def outgoing_weights(self) -> list[Tensor]:
        """Views (..., U) of the consumers' weights on each neuron; a sum or product has none."""
        return [view for consumer, part in self._consumers for view in consumer.weights(part)]

    def incoming_weights(self) -> list[Tensor]:
        """Views (..., U) of the weights that compute each neuron; empty if it owns none."""
        return []

    def keep(self, kept: Tensor, constants: Tensor) -> None:
        """Prune all but the neurons at positions `kept`, in order; consumers fold `constants` (U,).

        Device, dtype and train/eval mode stay as they are.

        Raises:
            ValueError: no neuron can be pruned, see `not_prunable_reason`.
        """
        if reason := self.not_prunable_reason:
            raise ValueError(f"no neuron of this {type(self).__name__} can be pruned: {reason}")
        assert 0 < len(kept) <= len(self.units), "a layer keeps at least one neuron"
        for consumer, part in self._consumers:
            consumer.drop_inputs(part, kept, constants)
        self.units = self.units[kept].clone()
        PrunableLayer.cuts += 1
        self._keep(kept)

    def fold(self, table: JointTable) -> None:
        """In a `Recommender.folded` copy: read vectors as the `table` stores them."""

    @property
    def activation_module(self) -> nn.Module:
        """The module whose output (B, U) is the activations: once, or once a time step."""
        return self

    @abstractmethod
    def _keep(self, kept: Tensor) -> None:
        """Compute only the neurons that were at positions `kept`; `units` holds them already."""

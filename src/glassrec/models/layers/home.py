"""The seam of every prunable layer: what its units emit, what reads them, and how some go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from glassrec.models.layers.readers import Consumer
from glassrec.models.layers.sizes import shrink_to

MIXING = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.Softmax, nn.LogSoftmax)
"""What it makes of one unit depends on all others: a unit that is gone changes the rest."""


class Layer(nn.Module, ABC):
    """A home of neurons; what its `tap` returns, (B, U), is what its units emit.

    `units` (U,) int64 holds the index of each unit in the network as it was built.
    """

    units: Tensor
    built: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("units", torch.arange(size))
        # In the weights, so that those of a narrower model are not taken for a pruned one's.
        self.register_buffer("built", torch.tensor(size))
        self.register_load_state_dict_pre_hook(_refuse_another_size)
        self.register_load_state_dict_pre_hook(shrink_to)
        # Tuples hide the readers from nn.Module: they are not parts of this layer.
        self._consumers: tuple[tuple[Consumer, int], ...] = ()
        self._strangers: tuple[nn.Module, ...] = ()

    def feeds(self, reader: Consumer | nn.Module, part: int = 0) -> None:
        """Declare that `reader` reads this layer's activations as its `part`.

        A module that is no `Consumer`, such as a normalisation, holds on to all units.
        """
        if isinstance(reader, Consumer):
            self._consumers = (*self._consumers, (reader, part))
        else:
            self._strangers = (*self._strangers, reader)

    @property
    def refusal(self) -> str | None:
        """Why no unit can go, to follow the layer's name; None if some may."""
        for stranger in self._strangers:
            mixes = isinstance(stranger, MIXING)
            why = "mixes its units" if mixes else "has no way to do without one of its units"
            return f"it feeds {type(stranger).__name__}, which {why}"
        return None if self._consumers else "it is not declared what it feeds"

    @property
    def left(self) -> Tensor:
        """(size,) bool: which of the units as built are there."""
        none = torch.zeros(self.size, dtype=torch.bool, device=self.units.device)
        return none.index_fill(0, self.units, True)

    def unit_names(self, layer: str) -> list[str]:
        """A readable name for each unit, given the layer's own: `bottom.0[17]`."""
        return [f"{layer}[{unit}]" for unit in self.units.tolist()]

    def foldable(self, constants: Tensor) -> Tensor:
        """Which (U,) units can be dropped exactly if they always emit `constants` (U,)."""
        if self.refusal:
            return torch.zeros_like(constants, dtype=torch.bool)
        masks = [consumer.folds(constants) for consumer, _ in self._consumers]
        return torch.stack(masks).all(0)

    def outgoing(self) -> list[Tensor]:
        """Views (..., U) of the weights that its units are read with; those of some readers."""
        return [view for consumer, part in self._consumers for view in consumer.weights(part)]

    def incoming(self) -> list[Tensor]:
        """Views (..., U) of the weights that make its units; none where a unit owns no weights."""
        return []

    @property
    def used(self) -> Tensor:
        """(U,): whether anything comes of what a unit emits; what is not used can always go."""
        if self.refusal:
            return torch.ones_like(self.units, dtype=torch.bool)
        masks = [consumer.reads(part) for consumer, part in self._consumers]
        return torch.stack([mask.expand(len(self.units)) for mask in masks]).any(0)

    def keep(self, kept: Tensor, constants: Tensor) -> None:
        """Drop all units but those at positions `kept`, in order; readers fold `constants` (U,).

        Device, dtype and train/eval mode stay as they are.

        Raises:
            ValueError: no unit can go, see `refusal`.
        """
        if self.refusal:
            raise ValueError(f"no unit of this {type(self).__name__} can go: {self.refusal}")
        assert 0 < len(kept) <= len(self.units), "a layer keeps at least one unit"
        for consumer, part in self._consumers:
            consumer.drop_inputs(part, kept, constants)
        self.units = self.units[kept].clone()
        self._keep(kept)

    @property
    def tap(self) -> nn.Module:
        """The module whose output is what the units emit: (B, U), once or once a time step."""
        return self

    @abstractmethod
    def _keep(self, kept: Tensor) -> None:
        """Make only the units that were at positions `kept`; `units` holds them already."""


def _refuse_another_size(
    module: Layer,
    state: Mapping[str, Tensor],
    prefix: str,
    _metadata: object,
    _strict: bool,
    _missing: list[str],
    _unexpected: list[str],
    errors: list[str],
) -> None:
    """Before loading: a layer of another size than the one that `state` was built with."""
    built = state.get(f"{prefix}built")
    if built is not None and int(built) != module.size:
        errors.append(f"{prefix[:-1]} was built with {int(built)} units there, {module.size} here")


@contextmanager
def activations(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """What modules emit while the context is open, by name: (B, U), once a call.

    What a layer emits is heard at its tap.
    """
    emitted: dict[str, list[Tensor]] = {name: [] for name in modules}
    taps = {name: m.tap if isinstance(m, Layer) else m for name, m in modules.items()}
    handles = [
        tap.register_forward_hook(lambda _, __, out, name=name: emitted[name].append(out))
        for name, tap in taps.items()
    ]
    try:
        yield emitted
    finally:
        for handle in handles:
            handle.remove()

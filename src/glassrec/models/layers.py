"""The homes of prunable neurons, and the affine maps between them.

A `Layer` emits (B, U) activations of U units, can name them, and can be narrowed to some of them
for good: the weights that made a dropped unit go, and the constant that it emitted is folded into
the bias of whatever read it. Widths are read from the weights on loading, so a pruned checkpoint
loads like any other, and `Layer.units` keeps referring to the network as it was built.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassrec.data.schema import Target


@runtime_checkable
class Consumer(Protocol):
    """What reads the activations of a layer, as one of several parts laid side by side."""

    def folds(self, constants: Tensor) -> Tensor:
        """Which (U,) units may go for good, given the constant (U,) that each emits."""

    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """Read only the `kept` units of a part, and fold the constants (U,) of the others."""

    def weights(self, part: int) -> list[Tensor]:
        """Views (..., U) of the weights that read each unit of a part; none if it has no such."""

    def reads(self, part: int) -> Tensor:
        """(U,): whether anything comes of each unit of a part; () if the same holds for all."""


def _shrink_to(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Before loading: give the module's own tensors the smaller shapes that `state` brings.

    Only smaller ones: wider weights are those of another model, and loading then refuses them.
    """
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for name, tensor in own:
        given = state.get(prefix + name)
        if given is None or given.ndim != tensor.ndim or given.shape == tensor.shape:
            continue
        if all(new <= old for new, old in zip(given.shape, tensor.shape, strict=True)):
            _set(module, name, tensor.new_empty(given.shape))


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


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    """Replace a parameter or buffer by one of another shape, on the same device."""
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        value = nn.Parameter(value, requires_grad=old.requires_grad)
    setattr(module, name, value)


class Affine(nn.Module):
    """y = W [x₁; x₂; …] + b over parts laid side by side: (B, sum of parts) to (B, out)."""

    parts: Tensor

    def __init__(self, parts: Sequence[int], out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, sum(parts)))
        self.bias = nn.Parameter(torch.zeros(out))
        self.register_buffer("parts", torch.tensor(list(parts)))
        self.register_load_state_dict_pre_hook(_shrink_to)
        nn.init.xavier_uniform_(self.weight)

    def forward(self, *parts: Tensor) -> Tensor:
        """(B, out)."""
        joined = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        return F.linear(joined, self.weight, self.bias)

    def folds(self, constants: Tensor) -> Tensor:
        """Every constant can move into the bias."""
        return torch.ones_like(constants, dtype=torch.bool)

    def weights(self, part: int) -> list[Tensor]:
        """The columns (out, U) of a part."""
        start = int(self.parts[:part].sum())
        return [self.weight[:, start : start + int(self.parts[part])]]

    def reads(self, part: int) -> Tensor:
        """(U,): whether a column of a part has a weight that is not zero."""
        return (self.weights(part)[0] != 0).any(0)

    @torch.no_grad()
    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """Read only the `kept` units of a part; b takes over W · constants of the others."""
        start, width = int(self.parts[:part].sum()), int(self.parts[part])
        assert constants.shape == (width,), "one constant for each unit that was read"
        dropped = torch.ones(width, dtype=torch.bool, device=kept.device)
        dropped[kept] = False
        before, own, after = self.weight.tensor_split([start, start + width], dim=1)
        self.bias.add_(own[:, dropped] @ constants[dropped].to(own))
        _set(self, "weight", torch.cat([before, own[:, kept], after], 1))
        self.parts[part] = len(kept)

    @torch.no_grad()
    def keep_outputs(self, kept: Tensor) -> None:
        """Compute only the `kept` outputs."""
        _set(self, "weight", self.weight[kept].clone())
        _set(self, "bias", self.bias[kept].clone())


MIXING = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.Softmax, nn.LogSoftmax)
"""What it makes of one unit depends on all others: a unit that is gone changes the rest."""


def means(targets: Sequence[Target]) -> Tensor:
    """(K,): where the logits of these tasks start, so that training need not find it first."""
    return torch.tensor([target.mean for target in targets])


def start(targets: Sequence[Target]) -> nn.Parameter:
    """One bias (K,) a task. It is fixed where all is retrieval: a softmax does not notice it."""
    learnt = any(target.kind != "retrieval" for target in targets)
    return nn.Parameter(means(targets), requires_grad=learnt)


class Output(Affine):
    """The affine map to the logits of K tasks, which starts at their means."""

    def __init__(self, parts: Sequence[int], targets: Sequence[Target]) -> None:
        super().__init__(parts, len(targets))
        self.bias = nn.Parameter(means(targets))


class Total(nn.Module):
    """y = Σ x + b, with one b a task, which starts at its mean: (B, U) to (B, K)."""

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__()
        self.bias = start(targets)

    def forward(self, units: Tensor) -> Tensor:
        """(B, K)."""
        return units.sum(1, keepdim=True) + self.bias

    def folds(self, constants: Tensor) -> Tensor:
        """Every constant can move into the bias."""
        return torch.ones_like(constants, dtype=torch.bool)

    def weights(self, part: int) -> list[Tensor]:
        """None: it adds up."""
        return []

    def reads(self, part: int) -> Tensor:
        """() every unit counts."""
        return torch.ones((), dtype=torch.bool, device=self.bias.device)

    @torch.no_grad()
    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """The bias takes over the constants of the units that are not `kept`."""
        assert part == 0, "there is one part"
        gone = torch.ones(len(constants), dtype=torch.bool, device=kept.device)
        gone[kept] = False
        self.bias.add_(constants[gone].sum().to(self.bias))


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
        self.register_load_state_dict_pre_hook(_shrink_to)
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


class Hidden(Layer):
    """A hidden layer of a tower: ReLU(W x + b)."""

    def __init__(self, parts: Sequence[int], size: int) -> None:
        super().__init__(size)
        self.affine = Affine(parts, size)
        self.relu = nn.ReLU()

    def forward(self, *parts: Tensor) -> Tensor:
        """(B, U), none below zero."""
        return cast(Tensor, self.relu(self.affine(*parts)))

    def incoming(self) -> list[Tensor]:
        """The rows of W, as columns (in, U)."""
        return [self.affine.weight.T]

    def _keep(self, kept: Tensor) -> None:
        self.affine.keep_outputs(kept)


class Tower(nn.ModuleList):
    """Hidden layers, each feeding the next; whoever builds it declares what reads the last."""

    def __init__(self, parts: Sequence[int], sizes: Sequence[int]) -> None:
        widths = [parts, *([size] for size in sizes[:-1])]
        layers = [Hidden(width, size) for width, size in zip(widths, sizes, strict=True)]
        super().__init__(layers)
        for layer, reader in pairwise(layers):
            layer.feeds(reader.affine)

    @property
    def first(self) -> Hidden:
        """The layer that reads what enters the tower."""
        return cast(Hidden, self[0])

    @property
    def last(self) -> Hidden:
        """The layer whose units leave the tower."""
        return cast(Hidden, self[-1])

    def forward(self, *parts: Tensor) -> Tensor:
        """(B, U): what the last layer emits."""
        first, *rest = self
        hidden = first(*parts)
        for layer in rest:
            hidden = layer(hidden)
        return hidden


class Product(Layer):
    """The element-wise product of two vectors (B, E), as in generalised matrix factorisation."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, U)."""
        return self.read(left) * self.read(right)

    def read(self, vector: Tensor) -> Tensor:
        """(B, U): the dimensions of a vector (B, E) that are multiplied."""
        return vector[:, self.units] if len(self.units) < self.size else vector

    def _keep(self, kept: Tensor) -> None:
        """Nothing is computed but the product itself."""


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

"""Recurrent layers over a history: their cells, and the layer of their prunable neurons.

A cell is written out, one step at a time, as each unit's emission at each step has to be seen, and
because cuDNN's fused cells cannot be differentiated in evaluation mode, where explanations happen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from glassrec.models.layers import Affine, PrunableLayer

Kind = Literal["lstm", "gru"]


class Cell(nn.Module, ABC):
    """One step of U units: its state is what they emit, (B, U), and what they keep to themselves.

    It reads its own emissions of the step before, and so is a consumer of its layer.
    """

    states: ClassVar[int]
    """How many tensors (B, U) a state has; the first one is what the units emit."""
    blocks: ClassVar[Mapping[str, int]]
    """The affine maps of [x; h], by the name of the attribute, and how many rows a unit has in
    each: one a gate."""

    @abstractmethod
    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The state after a step with the input x (B, E)."""

    def folds(self, constants: Tensor) -> Tensor:
        """Only a zero can go: before the first step every unit has emitted zero."""
        return constants == 0

    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """Read only the `kept` units of the step before; the others have always been zero."""
        assert part == 0, "there is one part"
        for affine, _ in self._maps():
            affine.drop_inputs(1, kept, constants)

    def weights(self, part: int) -> list[Tensor]:
        """The columns (blocks · U, U) of h in each affine map."""
        return [view for affine, _ in self._maps() for view in affine.weights(1)]

    def reads(self, part: int) -> Tensor:
        """(U,): whether a gate of another unit reads it; one that only remembers itself is idle."""
        masks = []
        for affine, blocks in self._maps():
            (columns,) = affine.weights(1)
            by_others = columns.view(blocks, *2 * columns.shape[1:]) != 0
            by_others.diagonal(dim1=1, dim2=2).fill_(False)
            masks.append(by_others.any(0).any(0))
        return torch.stack(masks).any(0)

    def incoming_weights(self) -> list[Tensor]:
        """(blocks · inputs, U): the rows of every gate, a column a unit."""
        maps = self._maps()
        rows = [affine.weight.view(blocks, -1, affine.weight.shape[1]) for affine, blocks in maps]
        return [each.permute(0, 2, 1).flatten(0, 1) for each in rows]

    def _maps(self) -> list[tuple[Affine, int]]:
        return [(cast(Affine, getattr(self, name)), count) for name, count in self.blocks.items()]

    def keep_outputs(self, kept: Tensor) -> None:
        """Compute only the units at positions `kept`, in every gate."""
        for affine, blocks in self._maps():
            rows = torch.arange(len(affine.bias), device=kept.device).view(blocks, -1)
            affine.keep_outputs(rows[:, kept].flatten())


class LSTMCell(Cell):
    """Long short-term memory with a forget gate (Gers, Schmidhuber and Cummins, 2000).

    i, f, o = σ(W [x; h] + b);  c ← f ⊙ c + i ⊙ tanh(W [x; h] + b);  h = o ⊙ tanh(c)

    The forget gate's bias starts at 1, so that a state is kept at first (Jozefowicz et al., 2015).
    """

    states = 2
    blocks: ClassVar = {"gates": 4}

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.gates = Affine([width, units], 4 * units)
        nn.init.ones_(self.gates.bias[units : 2 * units].data)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(h, c), each (B, U)."""
        h, c = state
        write, keep, read, new = self.gates(x, h).chunk(4, 1)
        c = keep.sigmoid() * c + write.sigmoid() * new.tanh()
        return read.sigmoid() * c.tanh(), c


class GRUCell(Cell):
    """The gated recurrent unit (Cho et al., EMNLP 2014).

    r, z = σ(W [x; h] + b);  h ← z ⊙ h + (1 − z) ⊙ tanh(W [x; r ⊙ h] + b)
    """

    states = 1
    blocks: ClassVar = {"gates": 2, "proposal": 1}

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.gates = Affine([width, units], 2 * units)
        self.proposal = Affine([width, units], units)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(h,), (B, U)."""
        (h,) = state
        reset, keep = self.gates(x, h).sigmoid().chunk(2, 1)
        return (torch.lerp(self.proposal(x, reset * h).tanh(), h, keep),)


CELLS: dict[Kind, type[Cell]] = {"lstm": LSTMCell, "gru": GRUCell}


class Recurrent(PrunableLayer):
    """Units that read a history step by step; the state stays as it is where there is padding.

    So padding changes no bit of the result. A unit emits once a step, through `tap`. It can be
    dropped exactly if it always emits zero: any other constant would be missing in the state that
    the first step reads.
    """

    def __init__(self, width: int, size: int, kind: Kind) -> None:
        super().__init__(size)
        self.cell = CELLS[kind](width, size)
        self.emission = nn.Identity()
        self.register_consumer(self.cell)

    def forward(self, history: Tensor, steps: Tensor) -> Tensor:
        """The last emission (B, U) over a history (B, T, E), oldest first, with T ≥ 1.

        `steps` (B, T) is zero where there is padding.
        """
        zero = history.new_zeros(history.shape[0], len(self.units))
        state = (zero,) * self.cell.states
        for x, there in zip(history.unbind(1), (steps > 0).unsqueeze(2).unbind(1), strict=True):
            moved = self.cell(x, state)
            kept = [new.where(there, old) for new, old in zip(moved, state, strict=True)]
            state = (self.emission(kept[0]), *kept[1:])
        return state[0]

    @property
    def activation_module(self) -> nn.Module:
        """What the units emit, once a step, padding included."""
        return self.emission

    def incoming_weights(self) -> list[Tensor]:
        """The rows of all gates."""
        return self.cell.incoming_weights()

    def _keep(self, kept: Tensor) -> None:
        self.cell.keep_outputs(kept)

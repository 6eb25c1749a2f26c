"""A recurrent network over the user's history, as in GRU4Rec (Hidasi et al., ICLR 2016).

A cell is written out step by step: each neuron's activation at each step is recorded, and cuDNN's
fused cells cannot be differentiated in evaluation mode, where explanations happen.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, cast

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs
from glassrec.models.embedding import JointTable
from glassrec.models.history import HistoryModel
from glassrec.models.layers import (
    Activation,
    Affine,
    Consumer,
    Dimensions,
    Dropout,
    Output,
    PrunableLayer,
    Tower,
)

CellName = Literal["lstm", "gru"]


class RecurrentCell(nn.Module, Consumer):
    """One step of U neurons: the state is their activations (B, U), and internal tensors (B, U)."""

    states: ClassVar[int]
    """How many tensors (B, U) a state has; the first one is the activations."""
    blocks: ClassVar[Mapping[str, int]]
    """The affine maps of [x; h], by the name of the attribute, and how many rows a neuron has in
    each: one a gate."""
    fused = False
    """In a folded copy: one operation for all gates, which is faster and may round differently."""

    @abstractmethod
    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The state after a step with the input x (B, E)."""

    def folds(self, constants: Tensor) -> Tensor:
        """Only a zero can be folded: before the first step every neuron is zero."""
        return constants == 0

    def drop_inputs(self, part: int, kept: Tensor, constants: Tensor) -> None:
        """Read only the `kept` neurons of the step before; the others have always been zero."""
        assert part == 0, "there is one part"
        for affine, _ in self._maps():
            affine.drop_inputs(1, kept, constants)

    def weights(self, part: int) -> list[Tensor]:
        """The columns (blocks · U, U) of h in each affine map."""
        return [view for affine, _ in self._maps() for view in affine.weights(1)]

    def reads(self, part: int) -> Tensor:
        """(U,): whether a gate of another neuron reads it; reading only itself has no effect."""
        masks = []
        for affine, blocks in self._maps():
            (columns,) = affine.weights(1)
            by_others = columns.view(blocks, *2 * columns.shape[1:]) != 0
            by_others.diagonal(dim1=1, dim2=2).fill_(False)
            masks.append(by_others.any(0).any(0))
        return torch.stack(masks).any(0)

    def incoming_weights(self) -> list[Tensor]:
        """(blocks · inputs, U): the rows of every gate, a column a neuron."""
        maps = self._maps()
        rows = [affine.weight.view(blocks, -1, affine.weight.shape[1]) for affine, blocks in maps]
        return [each.permute(0, 2, 1).flatten(0, 1) for each in rows]

    def keep_outputs(self, kept: Tensor) -> None:
        """Compute only the neurons at positions `kept`, in every gate."""
        for affine, blocks in self._maps():
            rows = torch.arange(len(affine.bias), device=kept.device).view(blocks, -1)
            affine.keep_outputs(rows[:, kept].flatten())

    def _maps(self) -> list[tuple[Affine, int]]:
        return [(cast(Affine, getattr(self, name)), count) for name, count in self.blocks.items()]


class LSTMCell(RecurrentCell):
    """Long short-term memory with a forget gate (Gers, Schmidhuber and Cummins, 2000).

    i, f, o = σ(W [x; h] + b);  c ← f ⊙ c + i ⊙ tanh(W [x; h] + b);  h = o ⊙ tanh(c)

    The forget gate's bias starts at 1, so that a state is kept at first (Jozefowicz et al., 2015).
    """

    states = 2
    blocks: ClassVar = {"gates": 4}

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.gates = Affine([width, size], 4 * size)
        nn.init.ones_(self.gates.bias[size : 2 * size].data)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(h, c), each (B, U)."""
        h, c = state
        gates = self.gates(x, h)
        write, keep, read, new = gates.chunk(4, 1)
        if self.fused:
            write, keep, read, _ = gates.sigmoid().chunk(4, 1)
        else:
            write, keep, read = write.sigmoid(), keep.sigmoid(), read.sigmoid()
        c = keep * c + write * new.tanh()
        return read * c.tanh(), c


class GRUCell(RecurrentCell):
    """The gated recurrent unit (Cho et al., EMNLP 2014).

    r, z = σ(W [x; h] + b);  h ← z ⊙ h + (1 − z) ⊙ tanh(W [x; r ⊙ h] + b)
    """

    states = 1
    blocks: ClassVar = {"gates": 2, "proposal": 1}

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.gates = Affine([width, size], 2 * size)
        self.proposal = Affine([width, size], size)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(h,), (B, U)."""
        (h,) = state
        reset, keep = self.gates(x, h).sigmoid().chunk(2, 1)
        return (torch.lerp(self.proposal(x, reset * h).tanh(), h, keep),)


CELLS: dict[CellName, type[RecurrentCell]] = {"lstm": LSTMCell, "gru": GRUCell}


class Recurrent(PrunableLayer):
    """Neurons that read a history step by step; the state stays as it is where there is padding.

    Only a neuron that is always zero can be pruned exactly: the first step reads a state of zeros.
    """

    def __init__(self, width: int, size: int, kind: CellName) -> None:
        super().__init__(size)
        self.cell = CELLS[kind](width, size)
        self.emission = nn.Identity()
        self.register_consumer(self.cell)

    def forward(self, history: Tensor, steps: Tensor, every: bool = False) -> Tensor:
        """The last activations (B, U) over a history (B, T, E), or of `every` step (B, T, U)."""
        zero = history.new_zeros(history.shape[0], len(self.units))
        state, states = (zero,) * self.cell.states, []
        for x, there in zip(history.unbind(1), (steps > 0).unsqueeze(2).unbind(1), strict=True):
            moved = self.cell(x, state)
            kept = [new.where(there, old) for new, old in zip(moved, state, strict=True)]
            state = (self.emission(kept[0]), *kept[1:])
            states.append(state[0])
        return torch.stack(states, 1) if every else state[0]

    @property
    def activation_module(self) -> nn.Module:
        """The activations of every step, padding included."""
        return self.emission

    def incoming_weights(self) -> list[Tensor]:
        """The rows of all gates."""
        return self.cell.incoming_weights()

    def fold(self, table: JointTable) -> None:
        """Compute all gates at once."""
        self.cell.fused = True

    def _keep(self, kept: Tensor) -> None:
        self.cell.keep_outputs(kept)


class LSTM(HistoryModel, folds=True):
    """The last state over the history, beside the candidate, through a ReLU tower to the logit.

    An item has one embedding, as a candidate and as a step of the history.

    Args:
        data: the columns of the batches.
        embedding: the width of the embeddings.
        hidden: the neurons of the recurrent layer.
        cell: long short-term memory, or a gated recurrent unit.
        tower: the sizes of the tower's hidden layers.
        reads: the columns beside the history: those that follow from the candidate item, or all
            fields and dense columns.
        activation: of the towers.
        dropout: the share of their activations that a training step drops.
        batch_norm: whether training normalises what the activations are of.
    """

    def __init__(
        self,
        data: Schema,
        embedding: Annotated[int, Ge(1)] = 32,
        hidden: Annotated[int, Ge(1)] = 32,
        cell: Literal["lstm", "gru"] = "lstm",
        tower: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] = (32,),
        reads: Literal["item", "all"] = "item",
        activation: Activation = "relu",
        dropout: Dropout = 0.0,
        batch_norm: bool = False,
    ) -> None:
        neurons = activation, dropout, batch_norm
        dense, fields = data.item_dense, data.item_side
        if reads == "all":
            dense, fields = data.dense, data.field_names
        super().__init__(data, data.select(dense=dense, fields=fields, history=True), embedding)
        self.recurrent = Recurrent(embedding, hidden, cell)
        self.embedding = Dimensions(self.schema.field_names, range(embedding))
        self.tower = Tower([hidden, len(self.schema.dense), self.embedding.size], tower, *neurons)
        self.output = Output([tower[-1]], data.targets)
        self.recurrent.register_consumer(self.tower.first.affine, 0)
        self.embedding.register_consumer(self.tower.first.affine, 2)
        self.tower.last.register_consumer(self.output)
        nn.init.normal_(self.table.weight, std=0.1)

    def read(self, history: Tensor, steps: Tensor, *, every: bool = False) -> Tensor:
        """As of any model of a history; a state is the activations (B, U) of the neurons."""
        return cast(Tensor, self.recurrent(history, steps, every))

    def compare(self, state: Tensor, inputs: Inputs) -> Tensor:
        """The logits (B, K)."""
        return self.output(self.tower(state, inputs.dense, self.embedding(inputs.fields)))

    def dimensions(self) -> Tensor:
        """Those that the tower reads, and all of the item, which the history reads."""
        item = torch.tensor([name == self.schema.item for name in self.schema.field_names])
        return self.embedding.read | item.to(self.device).unsqueeze(1)

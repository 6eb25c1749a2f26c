"""Rows to be explained as a game: what the logit is with some players as they are and others not.

Every method asks a game for logits or for gradients at settings of the gates, so none of them
needs to know of models, of embeddings or of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from glassrec.explain.gates import Gates
from glassrec.models.base import Inputs, Recommender


def double(values: Tensor) -> Tensor:
    """The values in float64, where need be on the CPU: Apple's GPUs know no float64."""
    return (values.cpu() if values.device.type == "mps" else values).double()


@dataclass(frozen=True)
class Game:
    """B rows, each beside a baseline of its own, and P players.

    Args:
        model: in evaluation mode.
        gates: the players.
        inputs: B embedded rows.
        baseline: B rows beside them.
        task: the column of the logits that is explained.
        chunk: how many settings of rows pass the model at once; bounds the memory.
        index: (B,) the number of each row among all that are explained, for random draws that do
            not depend on how rows are chunked; 0, 1, ... if not given.
    """

    model: Recommender
    gates: Gates
    inputs: Inputs
    baseline: Inputs
    task: int = 0
    chunk: int = 16384
    index: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def __post_init__(self) -> None:
        if not len(self.index):
            object.__setattr__(self, "index", torch.arange(self.rows))
        assert len(self.index) == self.rows, "each row has a number"

    @property
    def rows(self) -> int:
        """The number of rows B."""
        return self.inputs.rows

    @property
    def players(self) -> int:
        """The number of players P."""
        return len(self.gates.players)

    @property
    def exact(self) -> torch.device:
        """Where its float64 numbers are: where the rows are, or where `double` puts them."""
        device = self.inputs.dense.device
        return torch.device("cpu") if device.type == "mps" else device

    @cached_property
    def off(self) -> Inputs:
        """The rows with every player at its baseline; what no player owns stays as it is."""
        return self.gates.apply(self._full(0), self.inputs, self.baseline)

    @cached_property
    def difference(self) -> Tensor:
        """(B,) float64: the logit of each row minus that with every player at its baseline."""
        on, off = self.logits(torch.stack([self._full(1), self._full(0)], 1)).unbind(1)
        return on - off

    def parts(self, settings: int) -> Iterator[Game]:
        """The same game, so few rows at a time that their logits at `settings` take little memory.

        A logit is one number where the row that passed the model held dozens.
        """
        return self.split(max(1, 16 * self.chunk // settings))

    def split(self, rows: int) -> Iterator[Game]:
        """The same game, `rows` rows at a time."""
        for first in range(0, self.rows, rows):
            some = slice(first, first + rows)
            inputs, baseline = (
                Inputs(*(part[some] for part in each)) for each in (self.inputs, self.baseline)
            )
            yield replace(self, inputs=inputs, baseline=baseline, index=self.index[some])

    @torch.no_grad()
    def logits(self, gates: Tensor) -> Tensor:
        """The logits (B, C), float64, of C settings: (C, P) for all rows, or (B, C, P)."""
        found = [self._score(on, *rows).flatten() for on, rows in self._tiles(gates)]
        return double(torch.cat(found)).view(self.rows, gates.shape[-2])

    def gradients(self, gates: Tensor) -> Tensor:
        """The logit's gradients (B, C, P) by the gates, at C settings: (C, P), or (B, C, P)."""
        found: list[Tensor] = []
        for on, rows in self._tiles(gates):
            own = on.repeat(rows[0].rows // len(on), 1, 1).requires_grad_()
            total = self._score(own, *rows).sum()
            # A player that the model does not read has no gradient: it moves nothing.
            (gradient,) = torch.autograd.grad(total, own, materialize_grads=True)
            found.append(gradient.flatten(0, 1))
        return torch.cat(found).view(self.rows, gates.shape[-2], self.players)

    def _tiles(self, gates: Tensor) -> Iterator[tuple[Tensor, tuple[Inputs, Inputs]]]:
        """All settings of all rows, row by row, at most `chunk` at a time.

        Yields:
            gates (R, C, P), or (1, C, P) where they are those of all rows; and R rows and their
            baselines, (R, 1, ...). To broadcast the two is twice as fast as to repeat them.
        """
        gates = gates.to(self.inputs.dense)
        at_once = max(1, self.chunk // gates.shape[-2])
        for first in range(0, self.rows, at_once):
            rows = slice(first, first + at_once)
            inputs, baseline = (
                Inputs(*(part[rows].unsqueeze(1) for part in each))
                for each in (self.inputs, self.baseline)
            )
            own = gates[rows] if gates.ndim == 3 else gates.unsqueeze(0)
            for on in own.split(self.chunk, 1):
                yield on, (inputs, baseline)

    def _score(self, gates: Tensor, inputs: Inputs, baseline: Inputs) -> Tensor:
        """The logits of a tile."""
        mixed = self.gates.apply(gates, inputs, baseline)
        return self.model.task_logits(Inputs(*(part.flatten(0, 1) for part in mixed)))[:, self.task]

    def _full(self, value: float) -> Tensor:
        return self.inputs.dense.new_full((self.rows, self.players), value)

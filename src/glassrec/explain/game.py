"""Rows to be explained as a game: what the logit is with some players as they are and others not.

Every method asks a game for logits or for gradients at settings of the gates, so none of them
needs to know of models, of embeddings or of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
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
        if len(self.index) != self.rows:
            object.__setattr__(self, "index", torch.arange(self.rows))

    @property
    def rows(self) -> int:
        """The number of rows B."""
        return self.inputs.rows

    @property
    def players(self) -> int:
        """The number of players P."""
        return len(self.gates.players)

    @cached_property
    def off(self) -> Inputs:
        """The rows with every player at its baseline; what no player owns stays as it is."""
        return self.gates.apply(self._full(0), self.inputs, self.baseline)

    @cached_property
    def difference(self) -> Tensor:
        """(B,) float64: the logit of each row minus that with every player at its baseline."""
        on, off = self.logits(torch.stack([self._full(1), self._full(0)], 1)).unbind(1)
        return on - off

    @torch.no_grad()
    def logits(self, gates: Tensor) -> Tensor:
        """The logits (B, C), float64, of C settings: (C, P) for all rows, or (B, C, P)."""
        settings = gates.shape[-2]
        found = [
            self.model.score(self.gates.apply(on, inputs, baseline))[:, self.task]
            for on, inputs, baseline in self._settings(gates)
        ]
        return double(torch.cat(found)).view(self.rows, settings)

    def gradients(self, gates: Tensor) -> Tensor:
        """The logit's gradients (B, C, P) by the gates, at C settings: (C, P), or (B, C, P)."""
        found: list[Tensor] = []
        for on, inputs, baseline in self._settings(gates):
            on.requires_grad_()
            logits = self.model.score(self.gates.apply(on, inputs, baseline))[:, self.task]
            # A player that the model does not read has no gradient: it moves nothing.
            found += torch.autograd.grad(logits.sum(), on, materialize_grads=True)
        return torch.cat(found).view(self.rows, gates.shape[-2], self.players)

    def _settings(self, gates: Tensor) -> Iterator[tuple[Tensor, Inputs, Inputs]]:
        """All settings of all rows, row by row, at most `chunk` at a time."""
        settings, device = gates.shape[-2], self.inputs.dense.device
        gates = gates.to(self.inputs.dense)
        for part in torch.arange(self.rows * settings, device=device).split(self.chunk):
            row, setting = part // settings, part % settings
            on = gates[setting] if gates.ndim == 2 else gates[row, setting]
            inputs, baseline = (
                Inputs(*(each[row] for each in rows)) for rows in (self.inputs, self.baseline)
            )
            yield on, inputs, baseline

    def _full(self, value: float) -> Tensor:
        return self.inputs.dense.new_full((self.rows, self.players), value)

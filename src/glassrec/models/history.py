"""Models that read a user's history into a state, and compare the state with a candidate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from glassrec.data.batch import Batch
from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers.folding import recording


class HistoryModel(Recommender):
    """A new one writes `read` and `compare`. In lists of candidates, a history is read once."""

    def __init__(self, data: Schema, reads: Schema, width: int) -> None:
        if not data.history_length:
            raise ValueError(
                f"{type(self).__name__} needs a history of items; set data.history=20 (ncf, "
                "movielens_100k, movielens_1m and table have it), or take another model"
            )
        super().__init__(data, reads, width)

    @abstractmethod
    def read(self, history: Tensor, steps: Tensor, *, every: bool = False) -> Tensor:
        """The state (B, S) after a history (B, T, E), oldest first; with `every` (B, T, S), after
        each step. `steps` (B, T) is zero at padding, of which any on the left may be missing.
        """

    @abstractmethod
    def compare(self, state: Tensor, inputs: Inputs) -> Tensor:
        """The scores (B, K) of candidates after states (B, S); `inputs` but for the history."""

    def score(self, inputs: Inputs) -> Tensor:
        """The scores (B, K). One history that was expanded to many rows is read once."""
        past = inputs.history, inputs.steps
        plain = type(past[0]) is Tensor and not torch.is_grad_enabled()  # bounds have no strides
        if plain and past[0].stride(0) == past[1].stride(0) == 0:
            past = past[0][:1], past[1][:1]
        return self.compare(self.read(*past).expand(inputs.rows, -1), inputs)

    def batch_logits(self, batch: Batch) -> Tensor:
        """As of any model; without gradients, a history of neighbouring rows is read once."""
        if torch.is_grad_enabled() or recording or not batch.rows or torch.compiler.is_compiling():
            return super().batch_logits(batch)
        past = batch.history[:, : self.schema.history_length]
        new = torch.cat([past.new_ones(1).bool(), (past[1:] != past[:-1]).any(1)])
        rows, parts = zip(*by_length(past[new], (1 << 14) // past.shape[1]), strict=True)
        states = torch.cat([self.read(*self.table.history(part)) for part in parts])
        own = torch.cat(rows).argsort()[new.cumsum(0) - 1]
        rest = self.embed(batch._replace(history=past[:, :0]))
        return self.target_scale(self.compare(states[own], rest))


def by_length(history: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows (n,) of similarly long histories (N, T), and their ids (n, T') less shared padding."""
    lengths = (history > 0).sum(1)
    for index in lengths.argsort().split(max(rows, 1)):
        yield index, history[index, -max(1, int(lengths[index[-1]])) :]

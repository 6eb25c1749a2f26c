"""Self-attention over the user's history: SASRec (Kang and McAuley, ICDM 2018)."""

from __future__ import annotations

from typing import Annotated, cast

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs
from glassrec.models.history import HistoryModel
from glassrec.models.layers import Affine, Attention, StepwiseHidden, Total


class SASRecBlock(nn.Module):
    """x ← x + W · heads(LayerNorm(x));  x ← x + W₂ ReLU(W₁ LayerNorm(x) + b₁) + b₂."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.join = Affine([width], width)
        self.hidden_norm = nn.LayerNorm(width)
        self.hidden = StepwiseHidden([width], width)
        self.output = Affine([width], width)
        self.dropout = nn.Dropout(dropout)
        self.attention.register_consumer(self.join)
        self.hidden.register_consumer(self.output)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, Q, E): the last Q of the steps (B, T, E), for a mask (B, 1, Q, T)."""
        keys, first = self.attention_norm(x), -mask.shape[2]
        x = x[:, first:] + self.dropout(self.join(self.attention(keys[:, first:], keys, mask)))
        hidden = self.dropout(self.hidden(self.hidden_norm(x)))
        return cast(Tensor, x + self.dropout(self.output(hidden)))


class SASRec(HistoryModel, folds=True):
    """Blocks of causal self-attention over the history; the last state, times the candidate.

    Learnt positions count from the end of the history. Train it with `objective.steps=every`.

    Each of the `blocks` has attention of some `heads`, which divide the width `embedding`, and a
    hidden layer. `dropout` is the share of numbers that a training step sets to zero.
    """

    def __init__(
        self,
        data: Schema,
        embedding: Annotated[int, Ge(1)] = 50,
        blocks: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
    ) -> None:
        reads = data.select(fields=[data.item] if data.item else [], history=True)
        super().__init__(data, reads, embedding)
        self.positions = nn.Parameter(torch.empty(data.history_length, embedding))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(SASRecBlock(embedding, heads, dropout) for _ in range(blocks))
        self.norm, self.output = nn.LayerNorm(embedding), Total(data.targets)
        nn.init.xavier_normal_(self.table.weight)
        nn.init.xavier_normal_(self.positions)

    def read(self, history: Tensor, steps: Tensor, *, every: bool = False) -> Tensor:
        """As of any model of a history; S = E."""
        length = history.shape[1]
        x = self.dropout(history * self.width**0.5 + self.positions[-length:])
        itself = torch.eye(length, dtype=torch.bool, device=steps.device)
        earlier = itself.new_ones(length, length).tril()
        mask = ((steps > 0).unsqueeze(1) & earlier | itself).unsqueeze(1)
        for block in [*self.blocks][:-1]:
            x = block(x, mask)
        x = self.norm(self.blocks[-1](x, mask if every else mask[:, :, -1:]))
        return x if every else x[:, 0]

    def compare(self, state: Tensor, inputs: Inputs) -> Tensor:
        """The dot product with the candidate, and a bias a task."""
        return cast(Tensor, self.output(state * inputs.fields[:, 0]))

    @torch.no_grad()
    def attention(self, inputs: Inputs) -> Tensor:
        """(B, L, T): how much the last step reads of each step, for each head of each block."""
        found: list[Tensor] = []
        hooks = [
            each.register_forward_hook(lambda m, args, _: found.append(m.weights(*args)[:, -1]))
            for each in self.modules()
            if isinstance(each, Attention)
        ]
        self.read(inputs.history, inputs.steps)
        for hook in hooks:
            hook.remove()
        return torch.cat(found, 1)

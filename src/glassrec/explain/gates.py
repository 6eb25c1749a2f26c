"""One view for every explanation: players that gates switch between a baseline and the row.

A gate g in (B, P) is 1 where a player is as it is and 0 where it is at its baseline; the model sees
`baseline + g · (inputs − baseline)`. By the chain rule, integrated gradients over gates equal
integrated gradients over the embeddings, summed over what each player owns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender

Granularity = Literal["fields", "dimensions", "dense"]
"""Each dense column with each whole field; with each embedding dimension; dense columns alone."""


@dataclass(frozen=True)
class Gates:
    """Who the P players are, and which of the L = D + F·E + T·E inputs each owns.

    `owner` (L,) holds the player of each number of the flattened inputs; −1 is always on.
    """

    players: tuple[str, ...]
    owner: Tensor

    def apply(self, gates: Tensor, inputs: Inputs, baseline: Inputs) -> Inputs:
        """The inputs (B rows) with the gates (B, P) set; `baseline` has B rows or one."""
        on = gates.new_ones(gates.shape[0], 1)
        # −1 picks the last column, which is always on.
        spread = torch.cat([gates, on], 1)[:, self.owner]
        sizes = [part[0].numel() for part in inputs]
        parts = zip(inputs, baseline, spread.split(sizes, 1), strict=True)
        return Inputs(*(b + g.view_as(x) * (x - b) for x, b, g in parts))

    def sum_over_players(self, parts: Inputs) -> Tensor:
        """(B, P): what each player owns of values (B, ...) given for every input."""
        flat = torch.cat([part.flatten(1) for part in parts], 1)
        total = flat.new_zeros(flat.shape[0], len(self.players) + 1)
        # −1 is no valid index here: what nobody owns is summed into a column and dropped.
        owner = self.owner.where(self.owner >= 0, len(self.players))
        return total.index_add_(1, owner, flat)[:, :-1]


def gates(schema: Schema, width: int, granularity: Granularity, device: torch.device) -> Gates:
    """The players of a model that reads `schema` with embeddings of `width` numbers."""
    dense, fields = list(schema.dense), list(schema.field_names)
    dense_owner = torch.arange(len(dense))
    if granularity == "dense":
        fields_owner = torch.full((len(fields) * width,), -1)
        players = dense
    elif granularity == "fields":
        fields_owner = len(dense) + torch.arange(len(fields)).repeat_interleave(width)
        players = dense + fields
    else:
        fields_owner = len(dense) + torch.arange(len(fields) * width)
        players = dense + [f"{name}[{k}]" for name in fields for k in range(width)]
    history_owner = torch.full((schema.history_length * width,), -1)
    if not players:
        raise ValueError(f"explain.players={granularity}: the model reads no such columns")
    owner = torch.cat([dense_owner, fields_owner, history_owner]).to(device)
    return Gates(tuple(players), owner)


Kind = Literal["zero", "mean", "unseen"]


@torch.no_grad()
def baseline(model: Recommender, kind: Kind, background: Inputs) -> Inputs:
    """One row of inputs that stands for "nothing known".

    Args:
        model: whose inputs they are.
        kind: all zeros; the mean of the `background` rows; or each field's unseen id, with dense
            columns at zero, which is their mean after scaling.
        background: embedded training rows.
    """
    zero = Inputs(*(torch.zeros_like(part[:1]) for part in background))
    if kind == "zero":
        return zero
    if kind == "mean":
        return Inputs(*(part.mean(0, keepdim=True) for part in background))
    unseen = torch.tensor([model.schema.offsets], device=model.device)
    return zero._replace(fields=model.table(unseen))

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

Granularity = Literal["fields", "dimensions", "dense", "steps"]
"""fields: each dense column, each whole field, each step of the history. dimensions: the same, but
each embedding dimension. dense, steps: those alone, and all else stays as it is."""


@dataclass(frozen=True)
class Gates:
    """Who the P players are, and which of the L = D + F·E + T·E + T inputs each owns.

    `owner` (L,) holds the player of each number of the flattened inputs; −1 is always on.
    """

    players: tuple[str, ...]
    owner: Tensor

    def apply(self, gates: Tensor, inputs: Inputs, baseline: Inputs) -> Inputs:
        """The inputs with the gates set, exactly the one or the other where a gate is 1 or 0.

        Args:
            gates: (..., P).
            inputs: rows with the same leading dimensions, or some that broadcast with them.
            baseline: as the inputs.
        """
        on = gates.new_ones(*gates.shape[:-1], 1)
        # -1 stands for the last column, which is always on.
        owner = self.owner.where(self.owner >= 0, len(self.players))
        spread = torch.cat([gates, on], -1).index_select(-1, owner)
        shapes = [part.shape[gates.ndim - 1 :] for part in inputs]
        columns = spread.split([shape.numel() for shape in shapes], -1)
        parts = zip(inputs, baseline, columns, shapes, strict=True)
        return Inputs(
            *(torch.lerp(b, x, g.unflatten(-1, size).to(x.dtype)) for x, b, g, size in parts)
        )

    def sum_over_players(self, parts: Inputs) -> Tensor:
        """(B, P): what each player owns of values (B, ...) given for every input."""
        flat = torch.cat([part.flatten(1) for part in parts], 1)
        total = flat.new_zeros(flat.shape[0], len(self.players) + 1)
        # −1 is no valid index here: what nobody owns is summed into a column and dropped.
        owner = self.owner.where(self.owner >= 0, len(self.players)).to(flat.device)
        return total.index_add_(1, owner, flat)[:, :-1]


def gates(schema: Schema, width: int, granularity: Granularity, device: torch.device) -> Gates:
    """The players of a model that reads `schema` with embeddings of `width` numbers.

    Raises:
        ValueError: the model reads nothing of that kind.
    """
    steps = [f"history[{step}]" for step in range(-schema.history_length, 0)]
    players: list[str] = []
    owner: list[int] = []
    for kind, names, size in (
        ("dense", schema.dense, 1),
        ("fields", schema.field_names, width),
        ("steps", steps, width),
    ):
        own = [name for name in names for _ in range(size)]
        if granularity == "dimensions" and kind != "dense":
            own = [f"{name}[{k}]" for name in names for k in range(size)]
        if granularity in ("dense", "steps") and granularity != kind:
            owner += [-1] * len(own)
            continue
        distinct = dict.fromkeys(own)
        place = {name: len(players) + at for at, name in enumerate(distinct)}
        owner += [place[name] for name in own]
        players += distinct
    if not players:
        raise ValueError(f"explain.players={granularity}: the model reads no such columns")
    owner += [-1] * len(steps)  # which steps there are is no player's
    return Gates(tuple(players), torch.tensor(owner, device=device))


Kind = Literal["zero", "mean", "unseen"]


@torch.no_grad()
def baseline(model: Recommender, kind: Kind, background: Inputs) -> Inputs:
    """One row of inputs that stands for "nothing known".

    Args:
        model: whose inputs they are.
        kind: all zeros; the mean of the `background` rows, and of all of their steps; or each
            field's unseen id, with dense columns at zero, which is their mean after scaling.
        background: embedded training rows.
    """
    zero = Inputs(*(torch.zeros_like(part[:1]) for part in background))
    if kind == "zero":
        return zero
    schema = model.schema
    if kind == "mean":
        mean = Inputs(*(part.mean(0, keepdim=True) for part in background))
        known = mean.steps.mean().clamp_min(torch.finfo(mean.steps.dtype).tiny)
        step = mean.history.mean(1, keepdim=True) / known  # of the steps that there are
        return mean._replace(history=step.expand_as(mean.history))
    unseen = torch.tensor([schema.offsets], dtype=torch.long, device=model.device)
    fields = model.table(unseen)
    if not schema.history_length:
        return zero._replace(fields=fields)
    assert schema.item is not None, "a history is one of items"
    step = fields[:, [schema.place(schema.item)]]
    return zero._replace(fields=fields, history=step.expand_as(zero.history))

"""One view for every explanation: players that gates switch between a baseline and the row.

A gate g in (B, P) is 1 where a player is as it is and 0 where it is at its baseline; the model sees
`baseline + g · (inputs − baseline)`. By the chain rule, integrated gradients over gates equal
integrated gradients over the embeddings, summed over what each player owns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.spelling import one_of

Granularity = Literal["fields", "dimensions", "dense", "steps", "groups"]
"""fields: each dense column, each whole field, each step of the history. dimensions: the same, but
each embedding dimension. dense, steps: those alone, and all else stays as it is. groups: those that
a user names, and all else stays as it is."""


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


def gates(
    schema: Schema,
    width: int,
    players: Granularity | Sequence[Granularity],
    device: torch.device,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Gates:
    """The players of a model that reads `schema` with embeddings of `width` numbers.

    Args:
        schema: what the model reads.
        width: E.
        players: one kind, or several: a number belongs to the first kind that knows it.
        device: of the model.
        groups: by the name of a group, its parts: a column `price`, some dimensions `user[0:8]` or
            `user[3]`, a step `history[-1]`, or all of a kind: `dense`, `fields`, `history`.

    Raises:
        ValueError: the model reads nothing of that kind; or a group names what there is not, has
            the name of an input, or is left without any.
    """
    kinds: Sequence[Granularity] = [players] if isinstance(players, str) else players
    numbers = _numbers(schema, width)
    owner = _owners(kinds, numbers, groups or {})
    if not owner:
        words = ",".join(kinds)
        raise ValueError(f"explain.players={words}: the model reads no such columns")
    # In the order of the inputs, and not in that in which they were claimed.
    names = list(dict.fromkeys(owner[place] for place in sorted(owner)))
    # -1 is no player's; so are the marks of which steps there are, at the end.
    owners = [names.index(owner[p]) if p in owner else -1 for p in range(len(numbers))]
    owners += [-1] * schema.history_length
    return Gates(tuple(names), torch.tensor(owners, device=device))


@dataclass(frozen=True)
class _Number:
    """One of the flattened inputs: `dimension` k of a `column` of a `part`."""

    part: Literal["dense", "fields", "history"]
    column: str
    dimension: int


def _numbers(schema: Schema, width: int) -> list[_Number]:
    """What each of the flattened inputs is, but for the marks of the steps."""
    steps = [f"history[{step}]" for step in range(-schema.history_length, 0)]
    return [
        *(_Number("dense", name, 0) for name in schema.dense),
        *(_Number("fields", name, k) for name in schema.field_names for k in range(width)),
        *(_Number("history", name, k) for name in steps for k in range(width)),
    ]


def _owners(
    kinds: Sequence[Granularity], numbers: Sequence[_Number], groups: Mapping[str, Sequence[str]]
) -> dict[int, str]:
    """The player of each place that is anyone's: of the first kind, or group, that knows it."""
    owner: dict[int, str] = {}
    for kind in kinds:
        claims = _grouped(groups, numbers) if kind == "groups" else _each(kind, numbers)
        for place, name in claims:
            owner.setdefault(place, name)
    for name in groups if "groups" in kinds else ():
        if name not in owner.values():
            raise ValueError(f"explain.groups.{name}: others before it own all of its inputs")
    return owner


def _each(kind: Granularity, numbers: Sequence[_Number]) -> Iterator[tuple[int, str]]:
    """The place and the player of each number that a kind knows."""
    only = {"dense": "dense", "steps": "history"}.get(kind)
    for place, number in enumerate(numbers):
        if only is None or number.part == only:
            single = kind == "dimensions" and number.part != "dense"
            yield place, f"{number.column}[{number.dimension}]" if single else number.column


_RANGE = re.compile(r"(?P<column>.+)\[(?P<first>\d+)(?P<until>:\d+)?\]")


def _grouped(
    groups: Mapping[str, Sequence[str]], numbers: Sequence[_Number]
) -> Iterator[tuple[int, str]]:
    if not groups:
        raise ValueError(
            "explain.players=groups: no group is named; e.g. explain.groups={who: [age, user]}"
        )
    places: dict[str, list[int]] = {}
    for place, number in enumerate(numbers):
        for name in (number.part, number.column, f"{number.column}[{number.dimension}]"):
            places.setdefault(name, []).append(place)
    for group, parts in groups.items():
        if group in places:
            raise ValueError(f"explain.groups.{group}: an input has this name; take another")
        for part in parts:
            found = places.get(part) or _slice(part, places)
            if not found:
                known = list(dict.fromkeys([*_PARTS, *(number.column for number in numbers)]))
                raise ValueError(f"explain.groups.{group}: no input {part!r}{one_of(part, known)}")
            yield from ((place, group) for place in found)


_PARTS = ("dense", "fields", "history")


def _slice(part: str, places: Mapping[str, list[int]]) -> list[int]:
    """The places of `user[0:8]`, none if there is no such field or range."""
    match = _RANGE.fullmatch(part)
    if match is None or match["until"] is None:
        return []
    whole = places.get(match["column"], [])
    first, until = int(match["first"]), int(match["until"][1:])
    return whole[first:until] if first < until <= len(whole) else []


Kind = Literal["zero", "mean", "unseen", "background"]


@torch.no_grad()
def baseline(model: Recommender, kind: Kind, background: Inputs) -> Inputs:
    """Rows of inputs that stand for "nothing known": one, or the background.

    Args:
        model: whose inputs they are.
        kind: all zeros; the mean of the `background` rows, and of all of their steps; each field's
            unseen id, with dense columns at zero, which is their mean after scaling; or those rows.
        background: embedded training rows.
    """
    if kind == "background":
        return background
    zero = Inputs(*(torch.zeros_like(part[:1]) for part in background))
    if kind == "zero":
        return zero
    schema = model.schema
    if kind == "mean":
        mean = Inputs(*(part.mean(0, keepdim=True) for part in background))
        known = mean.steps.mean().clamp_min(torch.finfo(mean.steps.dtype).tiny)
        step = mean.history.mean(1, keepdim=True) / known  # of the steps that there are
        return mean._replace(history=step.expand_as(mean.history))
    fields = model.unseen()
    if not schema.history_length:
        return zero._replace(fields=fields)
    assert schema.item is not None, "a history is one of items"
    step = fields[:, [schema.field_index(schema.item)]]
    return zero._replace(fields=fields, history=step.expand_as(zero.history))

"""The features that a model's inputs are divided into: columns, dimensions, steps or groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch

from glassrec.data.schema import Schema
from glassrec.explain.masking import FeatureMask
from glassrec.spelling import one_of

Granularity = Literal["fields", "dimensions", "dense", "steps", "groups"]
"""fields: each dense column, each whole field, each step of the history. dimensions: the same, but
each embedding dimension. dense, steps: those alone, all else is never masked. groups: those that a
user names, all else is never masked."""

_PARTS = ("dense", "fields", "history")
_RANGE = re.compile(r"(?P<column>.+)\[(?P<first>\d+):(?P<until>\d+)\]")


def build_feature_mask(
    schema: Schema,
    width: int,
    granularity: Granularity | Sequence[Granularity],
    device: torch.device,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> FeatureMask:
    """The features of a model that reads `schema` with embeddings of `width` numbers.

    Of several granularities, a value belongs to a feature of the first that covers it. Groups are,
    by name, columns `price`, dimensions `user[0:8]` or `user[3]`, steps `history[-1]`, or all of a
    part: `dense`, `fields`, `history`.

    Raises:
        ValueError: the model reads no such inputs; or a group names an input that does not exist,
            has the name of an input, or is left without any.
    """
    levels: Sequence[Granularity] = [granularity] if isinstance(granularity, str) else granularity
    values = _input_values(schema, width)
    feature_of: dict[int, str] = {}
    for level in levels:
        found = _grouped(groups or {}, values) if level == "groups" else _single(level, values)
        for position, name in found:
            feature_of.setdefault(position, name)
    for name in groups or () if "groups" in levels else ():
        if name not in feature_of.values():
            raise ValueError(f"explain.groups.{name}: earlier features hold all of its inputs")
    if not feature_of:
        raise ValueError(f"explain.granularity={','.join(levels)}: the model reads no such columns")
    # In the order of the inputs, whichever level comes first.
    names = list(dict.fromkeys(feature_of[position] for position in sorted(feature_of)))
    ids = [names.index(feature_of[p]) if p in feature_of else -1 for p in range(len(values))]
    ids += [-1] * schema.history_length  # the marks of which steps there are
    return FeatureMask(tuple(names), torch.tensor(ids, device=device))


_Value = tuple[str, str, int]
"""One of the flattened inputs: its part, column and dimension."""


def _input_values(schema: Schema, width: int) -> list[_Value]:
    steps = [f"history[{step}]" for step in range(-schema.history_length, 0)]
    return [
        *(("dense", name, 0) for name in schema.dense),
        *(("fields", name, k) for name in schema.field_names for k in range(width)),
        *(("history", name, k) for name in steps for k in range(width)),
    ]


def _single(level: Granularity, values: Sequence[_Value]) -> Iterator[tuple[int, str]]:
    only = {"dense": "dense", "steps": "history"}.get(level)
    for position, (part, column, dimension) in enumerate(values):
        if only is None or part == only:
            split = level == "dimensions" and part != "dense"
            yield position, f"{column}[{dimension}]" if split else column


def _grouped(
    groups: Mapping[str, Sequence[str]], values: Sequence[_Value]
) -> Iterator[tuple[int, str]]:
    if not groups:
        raise ValueError(
            "explain.granularity=groups: no group is named; e.g. explain.groups={who: [age, user]}"
        )
    positions: dict[str, list[int]] = {}
    for position, (part, column, dimension) in enumerate(values):
        for name in (part, column, f"{column}[{dimension}]"):
            positions.setdefault(name, []).append(position)
    for group, parts in groups.items():
        if group in positions:
            raise ValueError(f"explain.groups.{group}: an input has this name; take another")
        for part in parts:
            found = positions.get(part) or _slice(part, positions)
            if not found:
                known = dict.fromkeys([*_PARTS, *(column for _, column, _ in values)])
                raise ValueError(f"explain.groups.{group}: no input {part!r}{one_of(part, known)}")
            yield from ((position, group) for position in found)


def _slice(part: str, positions: Mapping[str, list[int]]) -> list[int]:
    """The positions of `user[0:8]`, none if there is no such field or range."""
    match = _RANGE.fullmatch(part)
    if match is None:
        return []
    whole = positions.get(match["column"], [])
    first, until = int(match["first"]), int(match["until"])
    return whole[first:until] if first < until <= len(whole) else []

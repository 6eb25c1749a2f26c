"""What every unit can emit over every possible input: the ground of the *domain* level."""

from __future__ import annotations

from collections.abc import Iterator
from math import isinf, prod

import torch
from torch import Tensor

from glassrec.data.batch import Batch, track_batches
from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import activations
from glassrec.prune.bounds import Bounds, hull
from glassrec.prune.constants import Emitted, emitted
from glassrec.spelling import listed

LIMIT = 50_000_000
"""How many combinations of ids are tried, at most."""

CHUNK = 32_768
"""Rows that pass the model at once. One thread is as fast with fewer; several wait for each other
after every operation, and so less often with more."""


def domain(
    model: Recommender, data: Schema, limit: int = LIMIT, chunk: int = CHUNK
) -> dict[str, Emitted]:
    """What every unit of every layer can emit.

    Every combination of ids, if the model reads nothing else and they are no more than `limit`:
    then minimum and maximum are attained. Interval bounds otherwise: every unit stays within them,
    and `mean` is their middle, as nobody knows how often what occurs. Unseen ids are possible; a
    dense column lies in the range that its schema declares.

    Args:
        model: in float64 and evaluation mode.
        data: the columns of the batches that the model was made for.
        limit: the most combinations to try.
        chunk: rows that pass the model at once, which bounds the memory. That of interval bounds
            is the square of how many numbers a row of `Inputs` has, times 8 bytes; a table of any
            length passes in blocks.

    Raises:
        ValueError: `score` has an operation whose bounds are not known.
    """
    count = tried(model.schema, limit)
    if count is None:
        return bounded(model)
    every = combinations(data, model.schema, chunk, model.device)
    return emitted(model, track_batches(every, count, "combinations"))


def ground(reads: Schema, limit: int = LIMIT) -> str:
    """What `domain` stands on for a model of this schema, in words."""
    count = tried(reads, limit)
    if count is not None:
        return f"all {count:,} combinations of {listed(reads.field_names)}"
    dense = dict(zip(reads.dense, reads.intervals, strict=True))
    unbounded = [name for name, ends in dense.items() if any(map(isinf, ends))]
    words = "interval bounds over all ids" if reads.fields else "interval bounds"
    if len(unbounded) < len(dense):
        words += "; dense columns within their declared ranges"
    if unbounded:
        words += f"; no bound on {listed(unbounded)}"
    return words


def tried(reads: Schema, limit: int = LIMIT) -> int | None:
    """How many combinations of ids are tried.

    None if not ids alone tell the inputs of a model of this schema apart, or there are too many.
    """
    several = any(field.values > 1 for field in reads.fields)
    if reads.dense or reads.history_length or several or not reads.fields:
        return None
    count = prod(field.size for field in reads.fields)
    return count if count <= limit else None


def combinations(
    data: Schema, reads: Schema, chunk: int = CHUNK, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """Every combination of the ids of the fields that are read, made on the way.

    What else the batches of `data` hold is the same in all rows: unseen ids, zeros, no history.
    """
    columns = [data.id_columns(name).start for name in reads.field_names]
    sizes = [field.size for field in reads.fields]
    owner = [offset for field, offset in zip(data.fields, data.offsets, strict=True)
             for _ in range(field.values)]  # fmt: skip
    unseen = torch.tensor(owner, device=device)
    for start in range(0, prod(sizes), chunk):
        numbers = torch.arange(start, min(start + chunk, prod(sizes)), device=device)
        rows = len(numbers)
        ids = unseen.repeat(rows, 1)
        ids[:, columns] += torch.stack(torch.unravel_index(numbers, sizes), 1)
        dense = torch.zeros(rows, len(data.dense), device=device)
        history = ids.new_zeros(rows, data.history_length)
        yield Batch(dense, ids, history, torch.zeros(rows, len(data.targets), device=device))


@torch.no_grad()
def bounded(model: Recommender) -> dict[str, Emitted]:
    """Bounds (U,) of what each unit emits; of a recurrent one, at any step.

    Before its first step a recurrent unit has emitted zero. That is within the bounds where there
    are steps, as any of them may be padding, at which a unit emits what it did before.
    """
    with activations(model.layers) as heard:
        model.score(possible(model))
    found = {}
    for name, several in heard.items():
        if not several:
            continue  # `score` does not call this layer
        low, high = (end.squeeze(0) for end in hull(several))
        found[name] = Emitted(low, high, (low + high) / 2)
    return found


def possible(model: Recommender) -> Inputs:
    """Bounds of what `embed` can give: (1, D), (1, F, E), (1, T, E) and (1, T).

    The vector of a field of several values is the mean of some, so it lies among them: what is
    linear in it is lowest and highest at one of them.
    """
    reads, width = model.schema, model.width
    dense, fields, steps = len(reads.dense), len(reads.fields), reads.history_length
    table = model.table.weight.detach()
    tables = [model.table.vectors(name).detach() for name in reads.field_names]
    ends = table.new_tensor(reads.intervals).reshape(dense, 2).T
    first = torch.cat([rows[0] for rows in tables]) if tables else table.new_zeros(0)
    past = table.new_zeros(steps * width)
    closed = ends.isfinite().all(0)
    low = torch.cat([ends[0], first, past])
    high = torch.cat([ends[0].where(closed, ends[1]), first, past])
    sources = [*_columns(ends), *(rows - rows[0] for rows in tables)]
    if steps:
        items = tables[reads.field_index(reads.item or "")]
        sources += [torch.cat([items.new_zeros(1, width), items])] * steps
    symbols = torch.eye(len(low)).to(table)
    row = Bounds(torch.cat([torch.stack([low, high]), symbols]).unsqueeze(1), sources)
    numbers, vectors, history = row.split([dense, fields * width, steps * width], 1)
    return Inputs(
        numbers,
        vectors.reshape(1, fields, width),
        history.reshape(1, steps, width),
        Bounds(torch.stack([table.new_zeros(1, steps), table.new_ones(1, steps)])),
    )


def _columns(ends: Tensor) -> list[Tensor]:
    """The source (2, 1) of each dense column, counted from its low end; an open one's is zero."""
    spans = (ends[1] - ends[0]).where(ends.isfinite().all(0), 0)
    return [torch.stack([torch.zeros_like(span), span]).unsqueeze(1) for span in spans]

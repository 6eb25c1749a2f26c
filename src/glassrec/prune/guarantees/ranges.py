"""The range of each neuron's activations over all rows, or over every possible input.

Zero conductance on a sample proves nothing: a neuron may be active elsewhere, or always constant.
Where minimum and maximum over all rows (level *data*) or all inputs (level *domain*) are equal, it
is constant, and its constant can be folded into its consumers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from math import isinf, prod
from typing import NamedTuple

import torch
from torch import Tensor

from glassrec.data.batch import Batch, track_batches
from glassrec.data.schema import Schema
from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import activations
from glassrec.processes import each
from glassrec.prune.guarantees.bounds import Bounds, hull
from glassrec.spelling import listed

LAST_BITS = 4 * torch.finfo(torch.float64).eps
"""The share of an activation by which it may differ between rows and still be constant."""


class ActivationRange(NamedTuple):
    """The minimum, maximum and mean (U,) of each neuron of a layer, in float64."""

    low: Tensor
    high: Tensor
    mean: Tensor

    @property
    def constant(self) -> Tensor:
        """(U,) bool: whether the activation is the same on every row, but for its last bits.

        PyTorch's sigmoids of equal numbers can differ: others compute the last ones of a tensor.
        """
        return torch.isclose(self.low, self.high, rtol=LAST_BITS, atol=0)


@torch.no_grad()
def activation_ranges(model: Recommender, batches: Iterable[Batch]) -> dict[str, ActivationRange]:
    """The range of every neuron of every layer over all rows, which come in chunks.

    The model is in float64 and evaluation mode, so that "equal" is not a matter of rounding.

    Raises:
        ValueError: there are no rows.
    """
    found: dict[str, ActivationRange] = {}
    rows = 0
    calls: dict[str, int] = {}
    for count, layers in each(batches, partial(_ranges_of, model)):
        rows += count
        for name, values in layers.items():
            calls[name] = len(values)  # once a time step in a recurrent layer
            for one in values:
                found[name] = _merge(found[name], one) if name in found else one
    if rows == 0:
        raise ValueError("there are no rows to judge the neurons on")
    ranges = {n: (r.low, r.high, r.mean / (rows * calls[n])) for n, r in found.items()}
    return {n: ActivationRange(*(x.to(model.device) for x in r)) for n, r in ranges.items()}


def logits(model: Recommender, batch: Batch) -> Tensor:
    """The logits (B, K) of a batch, in the precision and on the device of the model."""
    batch = batch.to(model.device)
    return model(batch._replace(dense=batch.dense.to(model.dtype)))


def _ranges_of(model: Recommender, batch: Batch) -> tuple[int, dict[str, list[ActivationRange]]]:
    """The number of rows, and of each call of each layer the ranges, with sums for means."""
    with activations(model.layers) as recorded:
        logits(model, batch)
    return batch.rows, {
        name: [ActivationRange(x.amin(0), x.amax(0), x.sum(0)) for x in calls]
        for name, calls in recorded.items()
    }


def _merge(one: ActivationRange, other: ActivationRange) -> ActivationRange:
    low, high = torch.minimum(one.low, other.low), torch.maximum(one.high, other.high)
    return ActivationRange(low, high, one.mean + other.mean)


MAX_ENUMERATED_INPUTS = 50_000_000

CHUNK_ROWS = 32_768
"""Rows that pass the model at once. One thread is as fast with fewer; several wait for each other
after every operation, and so less often with more."""


def domain_ranges(
    model: Recommender,
    data: Schema,
    limit: int = MAX_ENUMERATED_INPUTS,
    chunk: int = CHUNK_ROWS,
) -> dict[str, ActivationRange]:
    """The range of every neuron of every layer over all possible inputs.

    Every combination of ids, if the model reads nothing else and they are no more than `limit`:
    then minimum and maximum are attained. Interval bounds otherwise: every activation stays within
    them, and `mean` is their middle. Unseen ids are possible; a dense column lies in the range that
    its schema declares. The memory of interval bounds is the square of how many numbers a row of
    `Inputs` has, times 8 bytes; a table of any length passes in blocks.

    Args:
        model: in float64 and evaluation mode.
        data: the columns of the batches that the model was made for.
        limit: the most combinations to enumerate.
        chunk: rows that pass the model at once.

    Raises:
        ValueError: `score` has an operation whose bounds are not known.
    """
    count = count_inputs(model.schema, limit)
    if count is None:
        return interval_ranges(model)
    every = enumerate_inputs(data, model.schema, chunk, model.device)
    return activation_ranges(model, track_batches(every, count, "combinations"))


def scope(reads: Schema, limit: int = MAX_ENUMERATED_INPUTS) -> str:
    """The inputs that `domain_ranges` covers for a model of this schema, in words."""
    count = count_inputs(reads, limit)
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


def count_inputs(reads: Schema, limit: int = MAX_ENUMERATED_INPUTS) -> int | None:
    """The number of combinations of ids; None if a model reads others, too, or they are too
    many.
    """
    several = any(field.values > 1 for field in reads.fields)
    if reads.dense or reads.history_length or several or not reads.fields:
        return None
    count = prod(field.size for field in reads.fields)
    return count if count <= limit else None


def enumerate_inputs(
    data: Schema, reads: Schema, chunk: int = CHUNK_ROWS, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """Every combination of the ids of the fields that are read, generated chunk by chunk.

    All other columns of `data` are the same in all rows: unseen ids, zeros, no history.
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
def interval_ranges(model: Recommender) -> dict[str, ActivationRange]:
    """Bounds (U,) of each neuron's activation; of a recurrent one, at any step.

    Before its first step a recurrent neuron is zero. That is within the bounds where there are
    steps, as any of them may be padding.
    """
    with activations(model.layers) as recorded:
        model.score(input_bounds(model))
    found = {}
    for name, several in recorded.items():
        if not several:
            continue  # `score` does not call this layer
        low, high = (end.squeeze(0) for end in hull(several))
        found[name] = ActivationRange(low, high, (low + high) / 2)
    return found


def input_bounds(model: Recommender) -> Inputs:
    """Bounds of all that `embed` can return: (1, D), (1, F, E), (1, T, E) and (1, T).

    The vector of a field of several values is the mean of some, so it lies among them: a linear
    function of it is lowest and highest at one of them. ValueError if a field is a sum.
    """
    reads, width = model.schema, model.width
    if reads.summed and any(field.values > 1 for field in reads.fields):
        raise ValueError("no bounds are known of sums of several ids; take prune.level=data")
    dense, fields, steps = len(reads.dense), len(reads.fields), reads.history_length
    table = torch.empty(0, dtype=model.dtype, device=model.device)
    tables = [model.table.stored(name).detach() for name in reads.field_names]
    ends = table.new_tensor(reads.intervals).reshape(dense, 2).T
    first = torch.cat([table, *(rows[0].to(table) for rows in tables)])
    past = table.new_zeros(steps * width)
    closed = ends.isfinite().all(0)
    low = torch.cat([ends[0], first, past])
    high = torch.cat([ends[0].where(closed, ends[1]), first, past])
    spans = (ends[1] - ends[0]).where(closed, 0)  # of an open column zero
    sources = [torch.stack([torch.zeros_like(span), span]).unsqueeze(1) for span in spans]
    sources += tables
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

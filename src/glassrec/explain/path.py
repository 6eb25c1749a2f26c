"""Baselines, the straight path from one to a row, rules to integrate along it, and rows at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from glassrec.models.base import Inputs, Recommender

BaselineKind = Literal["zero", "mean", "unseen", "background"]


@torch.no_grad()
def build_baseline(model: Recommender, kind: BaselineKind, background: Inputs) -> Inputs:
    """Baseline inputs: one row, or all of the `background`, which are embedded training rows.

    mean is that of the rows and of all of their steps; unseen has each field's unseen id, and dense
    columns at zero, which is their mean after scaling.
    """
    if kind == "background":
        return background
    zero = Inputs(*(torch.zeros_like(part[:1]) for part in background))
    if kind == "zero":
        return zero
    schema = model.schema
    if kind == "mean":
        mean = Inputs(*(part.mean(0, keepdim=True) for part in background))
        present = mean.steps.mean().clamp_min(torch.finfo(mean.steps.dtype).tiny)
        step = mean.history.mean(1, keepdim=True) / present  # the mean of the steps that exist
        return mean._replace(history=step.expand_as(mean.history))
    fields = model.table.unseen()
    if not schema.history_length:
        return zero._replace(fields=fields)
    assert schema.item is not None, "a history is one of items"
    step = fields[:, [schema.field_index(schema.item)]]
    return zero._replace(fields=fields, history=step.expand_as(zero.history))


def zero_row(model: Recommender) -> Inputs:
    """One row of zeros with a full history: enough to see whether a method supports the model."""
    schema, zeros = model.schema, torch.empty(0, dtype=model.dtype, device=model.device).new_zeros
    return Inputs(
        zeros(1, len(schema.dense)),
        zeros(1, len(schema.fields), model.width),
        zeros(1, schema.history_length, model.width),
        zeros(1, schema.history_length) + 1,
    )


CPU_CHUNK_ROWS = 2048
"""Rows that a CPU passes through a model at once: more leave its cache, which takes up to half as
long again; fewer do not fill it. A GPU takes whatever it is given."""

MIN_ROWS_AT_ONCE = 16
"""Rows that always pass the model at once, whatever memory they take."""


class Quadrature(NamedTuple):
    """The nodes on [0, 1] at which a path is evaluated, and their weights, which add up to 1."""

    nodes: list[float]
    weights: list[float]


def trapezoid(steps: int) -> Quadrature:
    """Equidistant nodes, one more than steps: both ends are among them."""
    nodes = torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()
    return Quadrature(nodes, [0.5 / steps, *[1 / steps] * (steps - 1), 0.5 / steps])


def gauss_legendre(count: int) -> Quadrature:
    """The Gauss-Legendre rule, with the nodes and weights of Captum to the bit."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return Quadrature(((1 + nodes) / 2).tolist(), (weights / 2).tolist())


def straight_path(inputs: Inputs, baseline: Inputs, nodes: list[float]) -> Inputs:
    """Leaves (nodes · B, ...) with gradients: the points from `baseline` to `inputs`, by node."""
    leaves = []
    for end, start in zip(inputs, baseline, strict=True):
        at = torch.tensor(nodes, dtype=end.dtype, device=end.device).view(-1, *[1] * end.ndim)
        leaves.append((at * (end - start)).add_(start).flatten(0, 1).requires_grad_())
    return Inputs(*leaves)


def path_chunks(inputs: Inputs, baseline: Inputs, nodes: int) -> Iterator[tuple[Inputs, Inputs]]:
    """Rows and their baselines (B rows, or one), as many as stay in cache at so many nodes each."""
    count = max(1, CPU_CHUNK_ROWS // nodes) if inputs.dense.device.type == "cpu" else inputs.rows
    both = (*inputs, *baseline.expand_to(inputs))
    for parts in zip(*(part.split(max(1, count)) for part in both), strict=True):
        yield Inputs(*parts[: len(inputs)]), Inputs(*parts[len(inputs) :])


def average(values: Tensor, rule: Quadrature) -> Tensor:
    """The weighted sum over nodes: (nodes · B, ...) to (B, ...)."""
    by_node = values.unflatten(0, (len(rule.nodes), -1))
    return torch.tensordot(values.new_tensor(rule.weights), by_node, 1)


def rows_at_once(model: Recommender, row: Inputs, budget: int) -> int:
    """How many rows fit into `budget` bytes while the logit is differentiated."""
    return max(MIN_ROWS_AT_ONCE, int(budget / max(1.0, bytes_of_row(model, row))))


def bytes_of_row(model: Recommender, row: Inputs) -> float:
    """The bytes that a row takes meanwhile; `row` is one embedded row, or more.

    It is measured and so holds for any model: the bytes that autograd keeps for eight rows and not
    for four, twice, as each activation meets its gradient.
    """
    inputs = sum(part[0].nbytes for part in row)
    return 2 * (inputs + (_bytes_kept(model, row, 8) - _bytes_kept(model, row, 4)) / 4)


def _bytes_kept(model: Recommender, row: Inputs, rows: int) -> int:
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    repeated = Inputs(*(part[:1].expand(rows, *part.shape[1:]).clone() for part in row))
    leaves = Inputs(*(part.requires_grad_() for part in repeated))
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        logits = model.task_logits(leaves)  # kept alive, so that no storage is used twice
    del logits
    return sum(storages.values())

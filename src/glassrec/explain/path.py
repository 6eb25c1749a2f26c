"""The straight path from a baseline to a row: its nodes, and what a model emits and feels there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from glassrec.models.base import Inputs, Recommender
from glassrec.models.layers import activations

IN_CACHE = 2048
"""Rows that a processor passes through a model at once: more leave its cache, which takes up to
half as long again; fewer do not fill it. A GPU takes whatever it is given."""


class Quadrature(NamedTuple):
    """Where on [0, 1] a path is evaluated, and what each node counts."""

    nodes: list[float]
    weights: list[float]
    """they add up to 1"""


def trapezoid(steps: int) -> Quadrature:
    """Equidistant nodes, one more than steps: both ends are among them."""
    nodes = torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()
    return Quadrature(nodes, [0.5 / steps, *[1 / steps] * (steps - 1), 0.5 / steps])


def gauss_legendre(count: int) -> Quadrature:
    """The nodes and weights of Gauss and Legendre, to the bit those of Captum."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return Quadrature(((1 + nodes) / 2).tolist(), (weights / 2).tolist())


def between(start: Tensor, end: Tensor, nodes: list[float]) -> Tensor:
    """(nodes · B, ...): the points of the path from `start` to `end` (B, ...), node by node."""
    at = torch.tensor(nodes, dtype=end.dtype, device=end.device)
    points = at.view(-1, *[1] * end.ndim) * (end - start)
    return points.add_(start).flatten(0, 1)


def path(inputs: Inputs, baseline: Inputs, nodes: list[float]) -> Inputs:
    """Leaves that ask for gradients: the points from `baseline` to `inputs` (B rows each)."""
    points = zip(inputs, baseline, strict=True)
    return Inputs(*(between(b, x, nodes).requires_grad_() for x, b in points))


def portions(inputs: Inputs, baseline: Inputs, nodes: int) -> Iterator[tuple[Inputs, Inputs]]:
    """The rows beside their baselines, as many at a time as stay in cache at so many nodes each.

    `baseline` is B rows, or one for all.
    """
    count = max(1, IN_CACHE // nodes) if inputs.dense.device.type == "cpu" else inputs.rows
    both = (*inputs, *baseline.expand_to(inputs))
    for parts in zip(*(part.split(max(1, count)) for part in both), strict=True):
        yield Inputs(*parts[: len(inputs)]), Inputs(*parts[len(inputs) :])


class Felt(NamedTuple):
    """What modules emit, and the logit's gradient by it: one tensor (B, U) for each call."""

    emitted: dict[str, list[Tensor]]
    gradients: dict[str, list[Tensor]]


def feel(model: Recommender, modules: Mapping[str, nn.Module], inputs: Inputs, task: int) -> Felt:
    """One forward and one backward for all modules; `inputs` ask for gradients.

    What lies below the lowest module and beside them gets no gradient, and no weight does.
    """
    with activations(modules) as emitted:
        logits = model.task_logits(inputs)[:, task]
    each = [values for calls in emitted.values() for values in calls]
    # What the logit does not read has no gradient.
    found = iter(torch.autograd.grad(logits.sum(), each, materialize_grads=True) if each else ())
    gradients = {name: [next(found) for _ in calls] for name, calls in emitted.items()}
    detached = {name: [values.detach() for values in calls] for name, calls in emitted.items()}
    return Felt(detached, gradients)


def average(values: Tensor, rule: Quadrature) -> Tensor:
    """The weighted sum over nodes: (nodes · B, ...) to (B, ...)."""
    by_node = values.unflatten(0, (len(rule.nodes), -1))
    return torch.tensordot(values.new_tensor(rule.weights), by_node, 1)
